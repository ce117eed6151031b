// Definitions on hover and focus, the colours, the keys; then the figures and the cases are drawn.
for (const kind of ["pointerover", "focusin"]) {
  document.addEventListener(kind, (event) => {
    const term = event.target.closest?.(".term");
    if (!term) return;
    const [name, text] = D.definitions[term.dataset.term], box = term.getBoundingClientRect();
    showTip(kind === "focusin" ? box.left : event.clientX, kind === "focusin" ? box.bottom - 10 : event.clientY, el("p", {}, el("strong", {}, name)), el("p", {}, text));
  });
}
for (const kind of ["pointerout", "focusout"]) document.addEventListener(kind, (event) => { if (event.target.closest?.(".term")) hideTip(); });
addEventListener("scroll", hideTip, { passive: true });

const THEMES = { auto: ["◐", "as the system"], light: ["○", "light"], dark: ["●", "dark"] };

function setTheme(name) {
  const [mark, words] = THEMES[name], button = byId("theme");
  if (name === "auto") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = name;
  button.replaceChildren(`${mark} `, el("span", {}, name));
  button.setAttribute("aria-label", `Colours: ${words}`);
  button.dataset.chosen = name;
}

byId("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES), next = names[(names.indexOf(byId("theme").dataset.chosen) + 1) % names.length];
  setTheme(next);
  try { localStorage.setItem("torchvice-theme", next); } catch { /* a browser may refuse storage to a file */ }
  if (N) drawScatter();
});
for (const kind of ["(prefers-color-scheme: dark)", "print"]) matchMedia(kind).addEventListener("change", () => { if (N) drawScatter(); });

const help = byId("help");
byId("help-open").addEventListener("click", () => help.showModal());
byId("help-close").addEventListener("click", () => help.close());

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
  drawVice();
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

let width = innerWidth, waiting = 0;
addEventListener("resize", () => {
  if (innerWidth === width) return;  // a phone's address bar comes and goes
  width = innerWidth;
  clearTimeout(waiting);
  waiting = setTimeout(drawFigures, 120);
});

let theme = "auto";
try { theme = localStorage.getItem("torchvice-theme") || "auto"; } catch { /* as above */ }
setTheme(THEMES[theme] ? theme : "auto");
drawFigures();
if (E) {
  setUpFilters();
  startAddress();
}
// For benchmarks: from here on every control answers.
performance.mark("vice-interactive");
