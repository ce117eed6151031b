// The page of a ranking: filters of the table, and VICE against accuracy with the prediction and the Pareto front.
const R = D.ranking, models = byId("table-models");
let chart = null;

function rowsShown() {
  const words = byId("t-text").value.trim().toLowerCase().split(/\s+/).filter(Boolean), kind = byId("t-kind").value, method = byId("t-method")?.value ?? "";
  const fits = { "": () => true, sure: (one) => one.sure, top: (one) => one.candidate, front: (one) => one.front, above: (one) => one.beyond > 0, below: (one) => one.beyond < 0 }[kind];
  return (row, one) => fits(one) && (!method || one.method === method) && words.every((word) => row.cells[0].textContent.toLowerCase().includes(word));
}

function refilter() {
  const kept = rowsShown();
  let shown = 0;
  for (const row of models.tBodies[0].rows) {
    row.hidden = !kept(row, R.rows[Number(row.dataset.place)]);
    R.rows[Number(row.dataset.place)].hidden = row.hidden;
    shown += !row.hidden;
  }
  byId("found").textContent = shown ? `${shown.toLocaleString("en")} of ${plural(R.rows.length, "model")} ${shown === 1 ? "is" : "are"} shown.` : "No model meets these filters.";
  for (const mark of chart?.marks ?? []) mark.node.classList.toggle("pale", R.rows[mark.place].hidden);
}

function clearFilters() {
  for (const name of ["t-text", "t-kind", "t-method"]) if (byId(name)) byId(name).value = "";
  refilter();
}

// Scrolls to the row of a model.
function showRow(kind, place) {
  const row = [...models.tBodies[0].rows].find((one) => Number(one.dataset.place) === place);
  if (row.hidden) clearFilters();
  row.tabIndex = -1;
  row.scrollIntoView({ block: "center" });
  row.focus({ preventScroll: true });
}

function wordsOf(mark) {
  const one = R.rows[mark.place], signed = (value) => `${value < 0 ? "−" : "+"}${decimals(Math.abs(value))}`;
  const lines = [one.name, `${R.vice} ${decimals(one.y)} (${intervalText(...one.up)})`, `${R.accuracy} ${decimals(one.x)} (${intervalText(...one.across)})`];
  if (one.given) lines.push(`given accuracy ${signed(one.given[0])} (${signed(one.given[1])} to ${signed(one.given[2])})${one.beyond ? ", established" : ""}`);
  if (one.front) lines.push("on the Pareto front");
  return lines;
}

const LOOKS = { 1: ["above", "var(--blue)"], "-1": ["below", "var(--k3)"], 0: ["", "var(--grey)"] };

function markOf(one, x, y) {
  const ink = LOOKS[one.beyond][1], shape = { 1: "M-5 0L0 -5.6L5 0L0 5.6Z", "-1": "M-4.6 -4L4.6 -4L0 5Z", 0: "M-3.2 0A3.2 3.2 0 1 1 3.2 0A3.2 3.2 0 1 1 -3.2 0Z" }[one.beyond];
  return svg("path", { class: "mark", d: shape, transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, fill: one.beyond ? ink : "none", stroke: one.beyond ? "var(--ground)" : ink, "stroke-width": one.beyond ? 0.8 : 1.2 });
}

function drawFigures() {
  const box = byId("given");
  if (!box) return;
  const marks = R.rows.map((one, place) => ({ kind: "models", place, x: one.x, y: one.y, across: one.across, up: one.up })).filter((mark) => R.rows[mark.place].x !== null && R.rows[mark.place].y !== null);
  const height = Math.min(520, Math.max(320, box.clientWidth * 0.5));
  const up = span(marks.map((one) => one.y));
  chart = frame(box, { height, x: { ...span(marks.map((one) => one.x)), label: `${R.accuracy} (higher is better)` }, y: { ...up, ticks: ticksOf(up.low, up.high, 8), label: R.vice },
    summary: `Scatter plot of ${plural(marks.length, "model")}: ${R.vice} against ${R.accuracy}. The numbers are in the table; the arrow keys move along ${R.accuracy}, Enter goes to the row.` });
  const front = marks.filter((mark) => R.rows[mark.place].front).map((mark) => [mark.x, mark.y]);
  if (front.length) chart.drawing.append(frontLine(chart, front, false));
  const fit = R.rows.filter((one) => one.predicted !== null).sort((a, b) => a.x - b.x).map((one) => [chart.px(one.x), chart.py(one.predicted)]);
  if (fit.length) chart.drawing.append(lineOf(fit, { stroke: "var(--ink)", "stroke-width": 1.6, opacity: 0.75 }));
  // Marks that are established lie above the others.
  for (const mark of [...marks].sort((a, b) => Math.abs(R.rows[a.place].beyond) - Math.abs(R.rows[b.place].beyond))) {
    mark.node = markOf(R.rows[mark.place], chart.px(mark.x), chart.py(mark.y));
    chart.drawing.append(mark.node);
  }
  chart.whisker = svg("path", { fill: "none", stroke: "var(--ink)", "stroke-width": 1.5, visibility: "hidden" });
  chart.ring = svg("circle", { r: 9, fill: "none", stroke: "var(--ink)", "stroke-width": 1.8, visibility: "hidden" });
  chart.drawing.append(chart.whisker, chart.ring);
  chart.drawing.setAttribute("tabindex", "0");
  chart.drawing.setAttribute("class", "front");
  Object.assign(chart, { marks, wordsOf, at: -1, order: marks.map((_, i) => i).sort((a, b) => marks[a].x - marks[b].x || marks[a].y - marks[b].y) });
  listenFront(chart);
  drawKey();
  refilter();
}

function drawKey() {
  const sample = (beyond) => swatch(markOf({ beyond }, 11, 6));
  const entries = fitted() ? [[sample(1), "above what accuracy predicts, established"], [sample(-1), "below, established"], [sample(0), "neither is established"], [dash({ stroke: "var(--ink)" }), "prediction"]] : [[sample(0), "a model"]];
  byId("given-key").replaceChildren();
  legend(byId("given-key"), [...entries, [dash({ stroke: "var(--muted)", "stroke-dasharray": "6 4", "stroke-width": 1.6 }), "Pareto front"]]);
  lazyTable("given-table", () => table("VICE given accuracy, in the order of the ranks", ["model", R.accuracy, "VICE", "predicted", "VICE given accuracy", "on the front"],
    R.rows.map((one) => [one.name, decimals(one.x), decimals(one.y), decimals(one.predicted), one.given ? decimals(one.given[0]) : "–", one.front ? "✓ yes" : "no"])));
}

const fitted = () => R.rows.some((one) => one.given);

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") hideTip();
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || help.open || event.target.closest?.("input, select")) return;
  if (event.key === "?") { event.preventDefault(); help.showModal(); }
  if (event.key === "/") { event.preventDefault(); byId("t-text").focus(); }
});

setUpHeads(models);
sortBy(models, 1);  // as they are: by rank
const filters = byId("filters");
filters.hidden = false;
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("input", refilter);
byId("t-clear").addEventListener("click", clearFilters);
refilter();
drawFigures();
performance.mark("vice-interactive");
