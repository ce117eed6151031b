// VICE against mAP and against ECE-ML: a small mark per run, a large one per mean of a recipe, and the Pareto front.
const COLOURS = 6, MARKS = 5;  // the first thirty recipes all look different
const NAMED_IN_KEY = COLOURS * MARKS;
const front = { choice: 0, picked: -1, charts: [] };

const inkOf = (recipe) => `var(--k${recipe % COLOURS})`;

function markPath(recipe, x, y, r) {
  const p = (dx, dy) => `${(x + dx * r).toFixed(1)} ${(y + dy * r).toFixed(1)}`, kind = recipe % MARKS;
  if (kind === 0) return `M${p(-1, 0)}A${r} ${r} 0 1 1 ${p(1, 0)}A${r} ${r} 0 1 1 ${p(-1, 0)}Z`;
  if (kind === 1) return `M${p(-0.9, -0.9)}L${p(0.9, -0.9)}L${p(0.9, 0.9)}L${p(-0.9, 0.9)}Z`;
  if (kind === 2) return `M${p(0, -1.2)}L${p(1.15, 0.9)}L${p(-1.15, 0.9)}Z`;
  if (kind === 3) return `M${p(0, -1.3)}L${p(1.3, 0)}L${p(0, 1.3)}L${p(-1.3, 0)}Z`;
  return `M${p(0, 1.2)}L${p(1.15, -0.9)}L${p(-1.15, -0.9)}Z`;
}

// The marks of a panel: runs and means that have both numbers, with the limits of their intervals.
function marksOf(choice, panel) {
  const x = S.columns[panel.x], y = S.columns[choice.y], found = [];
  const known = (...values) => values.every((value) => value !== null && value !== undefined);
  S.runs.forEach((run, at) => {
    if (known(x.run[at], y.run[at])) found.push({ kind: "runs", place: at, recipe: run.recipe, x: x.run[at], y: y.run[at], across: [x.low[at], x.high[at]], up: [y.low[at], y.high[at]] });
  });
  const ends = (column, at) => (known(column.sd[at]) ? [column.mean[at] - column.sd[at], column.mean[at] + column.sd[at]] : [null, null]);
  S.recipes.forEach((recipe, at) => {
    if (known(x.mean[at], y.mean[at])) found.push({ kind: "recipes", place: at, recipe: at, x: x.mean[at], y: y.mean[at], across: ends(x, at), up: ends(y, at) });
  });
  return found;
}

function markText(mark, choice, panel) {
  const x = S.columns[panel.x], y = S.columns[choice.y], at = mark.place, lines = [S.recipes[mark.recipe].name];
  if (mark.kind === "recipes") {
    const mean = (column) => `${column.label} ${decimals(column.mean[at])}${column.sd[at] === null ? "" : ` ± ${decimals(column.sd[at])}`}`;
    lines.push(y.n[at] === 1 ? "mean of one run" : `mean of ${y.n[at]} runs ± standard deviation`, mean(y), mean(x));
    if (panel.on.includes(at)) lines.push("on the Pareto front");
    return lines;
  }
  const value = (column) => `${column.label} ${decimals(column.run[at])}${column.low[at] === null ? "" : ` (95 % interval ${intervalText(column.low[at], column.high[at])})`}`;
  return [...lines, `run ${S.runs[at].name}${S.runs[at].seed === null ? "" : `, seed ${S.runs[at].seed}`}${S.runs[at].given ? ", given" : ""}`, value(y), value(x)];
}

function span(values) {
  const low = Math.min(...values), high = Math.max(...values);
  const room = high - low > 1e-6 ? (high - low) * 0.09 : Math.max(Math.abs(high) * 0.05, 0.01);  // equal except for rounding
  return { low: low - room, high: high + room };
}

// The Pareto front as steps, from the best of one number to the best of the other.
function frontLine(chart, points, lower) {
  const from = lower ? chart.end : chart.left, best = points.map(([x, y]) => [chart.px(x), chart.py(y)]);
  const walk = lower ? [...best].sort((a, b) => b[0] - a[0]) : [...best].sort((a, b) => a[0] - b[0]);
  let d = `M${from} ${walk[0][1].toFixed(1)}`;
  walk.forEach(([x], at) => { d += `H${x.toFixed(1)}V${(at + 1 < walk.length ? walk[at + 1][1] : chart.foot).toFixed(1)}`; });
  return svg("path", { class: "border", d, fill: "none", stroke: "var(--muted)", "stroke-width": 1.4, "stroke-dasharray": "6 4" });
}

// The stretches of the front as thin boxes [x, y, width, height].
function frontBoxes(line) {
  const found = [];
  let x = 0, y = 0;
  for (const [, kind, first, second] of line.getAttribute("d").matchAll(/([MHV])([\d.-]+)(?: ([\d.-]+))?/g)) {
    const to = Number(first), [nextX, nextY] = kind === "M" ? [to, Number(second)] : kind === "H" ? [to, y] : [x, to];
    if (kind !== "M") found.push([Math.min(x, nextX), Math.min(y, nextY), Math.abs(nextX - x) || 1, Math.abs(nextY - y) || 1]);
    [x, y] = [nextX, nextY];
  }
  return found;
}

// The names of the recipes on the front, if they fit without overlap. A name next to another mean would be read as that one's.
function frontNames(chart, points, marks, line) {
  const boxes = (kinds, room = 6) => marks.filter((mark) => kinds.includes(mark.kind)).map((mark) => [chart.px(mark.x) - room, chart.py(mark.y) - 6, 2 * room, 12]);
  const all = boxes(["runs", "recipes"]), means = boxes(["recipes"]), wide = boxes(["recipes"], 26), lines = frontBoxes(line), names = [];
  const free = ([x, y, w, h], marked) => x > chart.left + 2 && x + w < chart.end && y > chart.top && y + h < chart.foot && ![...marked, ...names].some(([a, b, c, e]) => x < a + c && a < x + w && y < b + e && b < y + h);
  for (const [x, y, name] of points) {
    const words = name.length > 34 ? `${[...name].slice(0, 33).join("")}…` : name;
    const label = chart.text(words, { style: "paint-order:stroke;stroke:var(--ground);stroke-width:4px" });
    chart.drawing.append(label);
    const w = label.getComputedTextLength(), px = chart.px(x), py = chart.py(y);
    const apart = wide.filter(([a, b]) => Math.abs(a + 26 - px) + Math.abs(b + 6 - py) > 0.01);  // of the other means
    const places = [[px + 11, py - 17], [px - w - 11, py - 17], [px + 11, py + 3], [px - w - 11, py + 3], [px - w / 2, py - 24], [px - w / 2, py + 11], [px + 11, py - 7], [px - w - 11, py - 7]];
    const place = [[...all, ...apart], [...means, ...apart], means].map((marked) => places.find(([a, b]) => free([a, b, w, 14], [...marked, ...lines]))).find(Boolean);
    if (!place) { label.remove(); continue; }
    label.setAttribute("x", place[0]);
    label.setAttribute("y", place[1] + 11);
    names.push([place[0], place[1], w, 14]);
  }
}

function drawFront(at) {
  const choice = S.choices[front.choice], panel = choice.panels[at], box = byId(`front-${at}`);
  byId(`said-front-${at}`).textContent = panel.said;
  const marks = marksOf(choice, panel), x = S.columns[panel.x], y = S.columns[choice.y];
  front.charts[at] = null;
  const details = box.parentElement.querySelector("details");
  details.hidden = !marks.length;
  if (!marks.length) { box.replaceChildren(el("p", { class: "note" }, `Nothing to draw: no run has both ${y.label} and ${x.label}.`)); return; }
  const height = Math.min(420, Math.max(300, box.clientWidth * 0.66));
  const better = x.lower ? "lower is better" : "higher is better";
  const chart = frame(box, { height, x: { ...span(marks.map((one) => one.x)), label: `${x.label} (${better})` }, y: { ...span(marks.map((one) => one.y)), label: choice.name },
    summary: `Scatter plot of ${plural(marks.length, "mark")}: ${choice.name} against ${x.label}, of every run and of every recipe's mean. The arrow keys move along ${x.label}, Enter goes to the row of the table.` });
  const points = panel.on.map((recipe) => [x.mean[recipe], y.mean[recipe], S.recipes[recipe].name]);
  const line = points.length ? frontLine(chart, points, x.lower) : null;
  if (line) chart.drawing.append(line);
  marks.forEach((mark) => {
    const mean = mark.kind === "recipes", ink = inkOf(mark.recipe);
    mark.node = svg("path", { class: "mark", d: markPath(mark.recipe, chart.px(mark.x), chart.py(mark.y), mean ? 6.5 : 3.4), fill: mean ? ink : "none", stroke: mean ? "var(--ground)" : ink, "stroke-width": mean ? 1 : 1.3 });
    chart.drawing.append(mark.node);
  });
  chart.whisker = svg("path", { fill: "none", stroke: "var(--ink)", "stroke-width": 1.5, visibility: "hidden" });
  chart.ring = svg("circle", { r: 10, fill: "none", stroke: "var(--ink)", "stroke-width": 1.8, visibility: "hidden" });
  chart.drawing.append(chart.whisker, chart.ring);
  if (line) frontNames(chart, points, marks, line);
  chart.drawing.setAttribute("tabindex", "0");
  chart.drawing.setAttribute("class", "front");
  Object.assign(chart, { marks, choice, panel, at: -1, order: marks.map((_, i) => i).sort((a, b) => marks[a].x - marks[b].x || marks[a].y - marks[b].y) });
  front.charts[at] = chart;
  listenFront(chart);
  dimFront();
  const spread = (column, recipe) => (column.sd[recipe] === null ? "–" : decimals(column.sd[recipe]));
  lazyTable(`front-${at}-table`, () => table("Means of the recipes; the runs are in the table below", ["recipe", "runs", y.label, "standard deviation", x.label, "standard deviation", "on the front"],
    marks.filter((one) => one.kind === "recipes").map(({ place }) => [S.recipes[place].name, String(y.n[place]), decimals(y.mean[place]), spread(y, place), decimals(x.mean[place]), spread(x, place), panel.on.includes(place) ? "✓ yes" : "no"])));
}

// Shows the intervals of a mark, cut at the frame.
function highlightMark(chart, i) {
  chart.at = i;
  for (const node of [chart.ring, chart.whisker]) node.setAttribute("visibility", i < 0 ? "hidden" : "visible");
  if (i < 0) return;
  const mark = chart.marks[i], x = chart.px(mark.x), y = chart.py(mark.y);
  const cut = (value, low, high) => Math.min(Math.max(value, low), high).toFixed(1);
  let d = "";
  if (mark.across[0] !== null) d += `M${cut(chart.px(mark.across[0]), chart.left, chart.end)} ${y}H${cut(chart.px(mark.across[1]), chart.left, chart.end)}`;
  if (mark.up[0] !== null) d += `M${x} ${cut(chart.py(mark.up[0]), chart.top, chart.foot)}V${cut(chart.py(mark.up[1]), chart.top, chart.foot)}`;
  chart.whisker.setAttribute("d", d);
  chart.ring.setAttribute("cx", x);
  chart.ring.setAttribute("cy", y);
}

function tipOfMark(chart, x, y) {
  const mark = chart.marks[chart.at], words = chart.wordsOf ? chart.wordsOf(mark) : markText(mark, chart.choice, chart.panel);
  showTip(x, y, ...words.map((line, at) => el("p", {}, at ? line : el("strong", {}, line))));
  return words;
}

function nearestMark(chart, x, y) {
  let best = -1, least = 14 ** 2;
  chart.marks.forEach((mark, i) => {
    const before = mark.kind === "recipes" ? 3 ** 2 : 0;  // of two at one position the mean is chosen, which hides the run
    const away = (chart.px(mark.x) - x) ** 2 + (chart.py(mark.y) - y) ** 2 - before;
    if (away < least) { least = away; best = i; }
  });
  return best;
}

function listenFront(chart) {
  const drawing = chart.drawing;
  const under = (event) => { const box = drawing.getBoundingClientRect(), scale = chart.width / box.width; return nearestMark(chart, (event.clientX - box.left) * scale, (event.clientY - box.top) * scale); };
  const leave = () => { highlightMark(chart, -1); hideTip(); };
  drawing.addEventListener("pointermove", (event) => {
    highlightMark(chart, under(event));
    drawing.style.cursor = chart.at < 0 ? "default" : "pointer";
    if (chart.at < 0) hideTip(); else tipOfMark(chart, event.clientX, event.clientY);
  });
  drawing.addEventListener("click", (event) => {
    const i = under(event);
    if (i < 0) return;
    highlightMark(chart, i);
    if (event.pointerType === "touch") { tipOfMark(chart, event.clientX, event.clientY); return; }
    hideTip();
    showRow(chart.marks[i].kind, chart.marks[i].place);
  });
  drawing.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") leave(); });
  drawing.addEventListener("blur", leave);
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (event.key === "Enter" && chart.at >= 0) { event.preventDefault(); const mark = chart.marks[chart.at]; hideTip(); showRow(mark.kind, mark.place); return; }
    if (!step) return;
    event.preventDefault();
    const here = chart.order.indexOf(chart.at), next = here < 0 ? 0 : Math.min(Math.max(here + step, 0), chart.order.length - 1);
    highlightMark(chart, chart.order[next]);
    const box = drawing.getBoundingClientRect(), mark = chart.marks[chart.at];
    announce(tipOfMark(chart, box.left + chart.px(mark.x), box.top + chart.py(mark.y)).join(", "));
  });
}

// Dims all recipes but the one picked in the legend.
function dimFront() {
  for (const chart of front.charts) {
    for (const mark of chart?.marks ?? []) mark.node.classList.toggle("dim", front.picked >= 0 && mark.recipe !== front.picked);
  }
}

function drawKey() {
  const box = byId("front-key"), names = S.recipes.slice(0, NAMED_IN_KEY);
  const entry = (recipe, at) => el("li", {}, el("button", { type: "button", "aria-pressed": "false", onclick: (event) => {
    front.picked = front.picked === at ? -1 : at;
    for (const one of box.querySelectorAll("button")) one.setAttribute("aria-pressed", String(front.picked >= 0 && one === event.currentTarget));
    dimFront();
  } }, svg("svg", { width: 16, height: 16, viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: markPath(at, 8, 8, 6), fill: inkOf(at) })), recipe.name));
  box.replaceChildren(el("ul", { class: "keys", "aria-label": "Recipes: press to highlight one" }, ...names.map(entry)));
  const more = S.recipes.length - names.length;
  if (more > 0) box.append(el("p", { class: "note" }, `${plural(more, "further recipe")} ${more === 1 ? "repeats" : "repeat"} these marks: hover over a mark to see its recipe.`));
}

function drawFronts() {
  if (!S.choices.length) return;
  drawFront(0);
  drawFront(1);
}

function setUpFronts() {
  if (!S.choices.length) return;
  drawKey();
  for (const radio of document.querySelectorAll("input[name=vice]")) radio.addEventListener("change", () => { front.choice = Number(radio.value); drawFronts(); });
}
