// Sets up the keys, then draws the figures and cases.
addEventListener("recoloured", () => { if (N) drawScatter(); });  // a canvas does not change its colours by itself

const KEYS = {
  ArrowRight: () => stepBy(1), j: () => stepBy(1), ArrowLeft: () => stepBy(-1), k: () => stepBy(-1),
  m: () => byId("map-on")?.click(), o: () => byId("outline-on")?.click(), "/": () => byId("f-id")?.focus(), "?": () => help.showModal(),
  l: () => {
    const names = [...document.querySelectorAll(".labels button")], at = names.findIndex((one) => one.getAttribute("aria-pressed") === "true");
    if (names.length > 1) names[(at + 1) % names.length].click();
  },
};
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") hideTip();
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  if (event.target.closest?.("input, select, textarea, .scroll, #scatter") || !KEYS[event.key] || (!E && event.key !== "?")) return;
  event.preventDefault();
  KEYS[event.key]();
});
byId("list")?.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (event.key === "Enter" && state.entry >= 0) byId("case").focus();
  if (!step) return;
  event.preventDefault();
  stepBy(step);
});

function drawFigures() {
  drawScatter();
  drawVice("strict");
  drawVice("paper");
  drawReliability("strict");
  drawReliability("paper");
  if (byId("reliability-temperature")) drawReliability("temperature");
  drawCurve();
  drawClasses();
}

function chooseModel(model) {
  state.model = model;
  document.querySelector(`input[name=model][value="${model}"]`).checked = true;
  plot.at = -1;
  drawFigures();
  if (E) fillQuadrants();
}
for (const radio of document.querySelectorAll("input[name=model]")) {
  radio.addEventListener("change", () => { chooseModel(Number(radio.value)); refilter(); });
}

// On a phone the tables and definitions are folded; on paper nothing is.
const folds = [...document.querySelectorAll(".fold")];
if (innerWidth < 700) for (const one of folds) one.open = false;
addEventListener("beforeprint", () => { for (const one of folds) one.open = true; });

drawFigures();
if (E) {
  setUpFilters();
  startAddress();
}
// For benchmarks: every control responds from now on.
performance.mark("vice-interactive");
