// Figures as SVG: axes, bars and lines in the colours of the page, each with a table of its numbers.
const WIDEST = 1400;

function ticksOf(low, high, most = 5) {
  const raw = (high - low) / most || 1, decade = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * decade).find((k) => k >= raw * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step) found.push(Math.abs(at) < step * 1e-6 ? 0 : at);
  return found;
}

const short = (value) => String(Number(value.toPrecision(6)));
const RAISED = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const power = (exponent) => (exponent >= -2 && exponent <= 3 ? short(10 ** exponent) : `10${[...String(exponent)].map((sign) => RAISED[sign]).join("")}`);

// Draws empty axes; returns the drawing and its scales.
function frame(box, { height, x, y, right = null, summary, top = 10, left = 52, below = 40 }) {
  const width = Math.min(Math.max(box.clientWidth, 240), WIDEST), end = width - (right ? 50 : 12), foot = height - below;
  const drawing = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": summary });
  const px = (value) => left + (value - x.low) / (x.high - x.low) * (end - left);
  const scale = (axis) => (value) => foot - (value - axis.low) / (axis.high - axis.low) * (foot - top);
  const py = scale(y), text = (content, attributes) => { const node = svg("text", attributes); node.textContent = content; return node; };
  const rule = (attributes) => svg("line", { stroke: "var(--rule)", "stroke-width": 1, ...attributes });
  for (const tick of y.ticks ?? ticksOf(y.low, y.high)) {
    drawing.append(rule({ x1: left, x2: end, y1: py(tick), y2: py(tick) }));
    drawing.append(text((y.format ?? short)(tick), { x: left - 6, y: py(tick) + 4, "text-anchor": "end" }));
  }
  for (const tick of x.ticks ?? ticksOf(x.low, x.high, width < 420 ? 4 : 6)) {
    drawing.append(text((x.format ?? short)(tick), { x: px(tick), y: foot + 16, "text-anchor": "middle" }));
  }
  drawing.append(rule({ x1: left, x2: end, y1: foot, y2: foot, stroke: "var(--strong)" }));
  if (x.label) drawing.append(text(x.label, { x: (left + end) / 2, y: height - 4, "text-anchor": "middle", class: "soft" }));
  const upright = (label, at, ink) => text(label, { transform: `translate(${at} ${(top + foot) / 2}) rotate(-90)`, "text-anchor": "middle", class: ink ? "" : "soft", style: ink ? `fill:var(--${ink})` : null });
  if (y.label) drawing.append(upright(y.label, 12, y.ink));
  let py2 = null;
  if (right) {
    py2 = scale(right);
    for (const tick of right.ticks ?? ticksOf(right.low, right.high)) drawing.append(text(short(tick), { x: end + 6, y: py2(tick) + 4 }));
    drawing.append(upright(right.label, width - 4, right.ink));
  }
  box.replaceChildren(drawing);
  return { drawing, px, py, py2, left, end, top, foot, width, text };
}

function showNote(box, text) {
  box.replaceChildren(el("p", { class: "note" }, text));
  const details = box.parentElement.querySelector("details");
  if (details) details.hidden = true;
}

// A line with gaps where a value is undefined; a point between two gaps is a dot.
function lineOf(points, attributes) {
  let d = "", open = false;
  const dots = [];
  points.forEach(([x, y], at) => {
    if (y === null) { open = false; return; }
    d += `${open ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    if (!open && (at + 1 === points.length || points[at + 1][1] === null)) dots.push([x, y]);
    open = true;
  });
  const group = svg("g", {}, svg("path", { d, fill: "none", "stroke-linejoin": "round", "stroke-width": 2, ...attributes }));
  for (const [cx, cy] of dots) group.append(svg("circle", { cx, cy, r: 2.5, fill: attributes.stroke }));
  return group;
}

// Shows the column under the pointer in the tooltip.
function hoverColumns(chart, centres, linesOf) {
  const mark = svg("line", { y1: chart.top, y2: chart.foot, stroke: "var(--ink)", "stroke-width": 1, "stroke-dasharray": "2 3", visibility: "hidden" });
  chart.drawing.append(mark);
  chart.drawing.addEventListener("pointermove", (event) => {
    const box = chart.drawing.getBoundingClientRect(), x = (event.clientX - box.left) * chart.width / box.width;
    if (x < chart.left - 8 || x > chart.end + 8) { mark.setAttribute("visibility", "hidden"); hideTip(); return; }
    let best = 0;
    centres.forEach((centre, at) => { if (Math.abs(centre - x) < Math.abs(centres[best] - x)) best = at; });
    mark.setAttribute("x1", centres[best]);
    mark.setAttribute("x2", centres[best]);
    mark.setAttribute("visibility", "visible");
    showTip(event.clientX, event.clientY, ...linesOf(best).map((line) => el("p", {}, line)));
  });
  chart.drawing.addEventListener("pointerleave", () => { mark.setAttribute("visibility", "hidden"); hideTip(); });
}

function legend(box, entries) {
  box.append(el("ul", { class: "legend" }, ...entries.map(([swatch, words]) => el("li", {}, swatch, words))));
}

function swatch(...drawn) {
  return svg("svg", { width: 22, height: 12, viewBox: "0 0 22 12", "aria-hidden": "true" }, ...drawn);
}

const dash = (attributes) => swatch(svg("line", { x1: 0, x2: 22, y1: 6, y2: 6, "stroke-width": 2.5, ...attributes }));
const block = (fill) => swatch(svg("rect", { width: 22, height: 12, fill }));

function drawVice(protocol) {
  const box = byId(`vice-${protocol}`), found = currentModel().charts.vice[protocol], of = protocol === "paper" ? "image" : "true pair";
  if (!found) { showNote(box, `No VICE diagram of ${protocol}: no ${of} of this table has both the loss and the JI score.`); return; }
  const bins = found.loss.length, most = Math.max(...found.loss, 1e-9) * 1.05, least = Math.min(0, ...found.loss);
  const chart = frame(box, {
    height: 330, x: { low: 0, high: 100, label: `${of}s by increasing loss, % (n = ${found.n})` },
    y: { low: least, high: most, label: "loss, nats", ink: "brown" }, right: { low: 0, high: 1, label: "JI score", ink: "blue" },
    summary: `VICE diagram, ${protocol}, of ${plural(found.n, of)} in ${plural(bins, "bin")}: mean JI score over mean loss. The numbers are in the table below.`,
  });
  const centres = found.loss.map((_, at) => chart.px(100 * (at + 0.5) / bins)), wide = (chart.end - chart.left) / bins;
  found.loss.forEach((loss, at) => chart.drawing.append(svg("rect", {
    x: centres[at] - wide / 2, y: chart.py(Math.max(loss, 0)), width: wide + 0.3, height: Math.abs(chart.py(loss) - chart.py(0)), fill: "var(--orange)" })));
  chart.drawing.append(lineOf(found.ji.map((ji, at) => [centres[at], ji === null ? null : chart.py2(ji)]), { stroke: "var(--blue)", "stroke-width": bins > 80 ? 1.3 : 2 }));
  hoverColumns(chart, centres, (at) => [`Bin ${at + 1} of ${bins}`, `mean loss ${nats(found.loss[at])} nats`, `mean JI score ${decimals(found.ji[at])}`]);
  legend(box, [[block("var(--orange)"), "mean loss of the bin"], [dash({ stroke: "var(--blue)" }), "mean JI score of the bin"]]);
  const missing = [found.undefined ? `${found.undefined} with an undefined JI score` : "", found.left_out ? `${found.left_out} without a loss` : ""].filter(Boolean);
  if (missing.length) box.append(el("p", { class: "legend" }, `Of ${plural(found.n + found.left_out, of)}: ${missing.join(", ")}; a bin with an undefined JI score leaves a gap.`));
  lazyTable(`vice-${protocol}-table`, () => table(`Bins of the VICE diagram, ${protocol}`, ["bin", "mean loss", "mean JI score"], found.loss.map((loss, at) => [String(at + 1), nats(loss), decimals(found.ji[at])])));
}

function drawReliability(protocol) {
  const box = byId(`reliability-${protocol}`), found = currentModel().charts.reliability[protocol];
  if (!found || !found.count.some((n) => n)) { showNote(box, `No reliability diagram of ${protocol}: no image has both a confidence and an accuracy.`); return; }
  const outcome = protocol === "paper" ? "ML-accuracy" : "precision", bins = found.count.length, most = Math.max(...found.count);
  const chart = frame(box, {
    height: 330, top: 92, x: { low: 0, high: 1, ticks: [0, 0.2, 0.4, 0.6, 0.8, 1], label: `confidence (n = ${found.n}${found.outside ? `; in no bin: ${found.outside}` : ""})` },
    y: { low: 0, high: 1, ticks: [0, 0.2, 0.4, 0.6, 0.8, 1], label: outcome },
    summary: `Reliability diagram, ${protocol}: ${outcome} against confidence in ${bins} bins, ECE-ML ${decimals(found.ece)}. The numbers are in the table below.`,
  });
  const hatch = svg("pattern", { id: `hatch-${protocol}`, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    svg("line", { x1: 0, x2: 0, y1: 0, y2: 6, stroke: "var(--red)", "stroke-width": 1.6 }));
  chart.drawing.append(svg("defs", {}, hatch));
  const centres = found.count.map((_, at) => chart.px((found.edges[at] + found.edges[at + 1]) / 2));
  const count = (n) => 70 - n / most * 56;
  chart.drawing.append(chart.text("images", { transform: "translate(12 42) rotate(-90)", "text-anchor": "middle", class: "soft" }),
    chart.text(most.toLocaleString("en", { notation: "compact" }), { x: chart.left - 6, y: 18, "text-anchor": "end" }), chart.text("0", { x: chart.left - 6, y: 74, "text-anchor": "end" }),
    svg("line", { x1: chart.left, x2: chart.end, y1: 70, y2: 70, stroke: "var(--strong)" }));
  found.count.forEach((n, at) => {
    const x = chart.px(found.edges[at]) + 0.5, width = chart.px(found.edges[at + 1]) - x - 0.5;
    if (!n) return;
    chart.drawing.append(svg("rect", { x, width, y: count(n), height: 70 - count(n), fill: "var(--strong)" }));
    const right = found.accuracy[at], sure = found.confidence[at];
    if (right === null) return;
    chart.drawing.append(svg("rect", { x, width, y: chart.py(right), height: chart.foot - chart.py(right), fill: "var(--pale)" }));
    const gap = { x, width, y: chart.py(Math.max(right, sure)), height: Math.abs(chart.py(sure) - chart.py(right)) };
    chart.drawing.append(svg("rect", { ...gap, fill: sure > right ? "var(--blush)" : "var(--plum)" }), svg("rect", { ...gap, fill: `url(#hatch-${protocol})`, stroke: "var(--red)", "stroke-width": 0.8 }));
  });
  if (found.band) found.count.forEach((n, at) => {
    const [low, high] = found.band.map((end) => end[at]), x = centres[at];
    if (!n || low === null || high === null) return;
    chart.drawing.append(svg("path", { d: `M${x - 4} ${chart.py(low)}h8M${x} ${chart.py(low)}V${chart.py(high)}M${x - 4} ${chart.py(high)}h8`, stroke: "var(--ink)", "stroke-width": 1.2, fill: "none" }));
  });
  chart.drawing.append(svg("line", { x1: chart.px(0), y1: chart.py(0), x2: chart.px(1), y2: chart.py(1), stroke: "var(--ink)", "stroke-dasharray": "5 4" }));
  hoverColumns(chart, centres, (at) => [`Confidence ${decimals(found.edges[at], 2)} to ${decimals(found.edges[at + 1], 2)}: ${plural(found.count[at], "image")}`,
    ...(found.count[at] ? [`mean confidence ${decimals(found.confidence[at])}`, `mean ${outcome} ${decimals(found.accuracy[at])}`] : [])]);
  legend(box, [[block("var(--pale)"), outcome], [swatch(svg("rect", { width: 22, height: 12, fill: "var(--blush)" }), svg("rect", { width: 22, height: 12, fill: `url(#hatch-${protocol})`, stroke: "var(--red)" })), "gap to mean confidence"], [dash({ stroke: "var(--ink)", "stroke-dasharray": "5 4" }), `perfect calibration; ECE-ML ${decimals(found.ece)}`],
    ...(found.band ? [[swatch(svg("path", { d: "M7 1h8M11 1V11M7 11h8", stroke: "var(--ink)", fill: "none" })), "95 % of calibrated models"]] : [])]);
  lazyTable(`reliability-${protocol}-table`, () => table(`Bins of confidence, ${protocol}`, ["from", "to", "images", "mean confidence", `mean ${outcome}`],
    found.count.map((n, at) => [decimals(found.edges[at], 2), decimals(found.edges[at + 1], 2), String(n), n ? decimals(found.confidence[at]) : "–", n ? decimals(found.accuracy[at]) : "–"])));
}

function drawCurve() {
  const box = byId("curve"), { curves, along } = currentModel().charts, names = Object.keys(curves).sort().reverse();
  if (!names.length && !along) { showNote(box, "No threshold curve: no image has a mask."); return; }
  box.replaceChildren();
  const t = along ? along.t : curves[names[0]].t, ends = { low: t[0], high: t[t.length - 1] > t[0] ? t[t.length - 1] : t[0] + 0.1 };
  const looks = { strict: { stroke: "var(--blue)" }, paper: { stroke: "var(--brown)", "stroke-dasharray": "7 4" } };
  const keys = [];
  if (names.length) {
    const part = el("div", {}), top = Math.max(...names.flatMap((name) => curves[name].iou.filter((v) => v !== null)), 0.01) * 1.15;
    box.append(part);
    const chart = frame(part, { height: 190, below: 22, x: { ...ends }, y: { low: 0, high: top, label: "mean IoU", ticks: ticksOf(0, top, 4) },
      summary: `Mean IoU against the threshold of the map; best: ${names.map((n) => `${n} at ${decimals(curves[n].best, 2)}`).join(", ")}. The numbers are in the table below.` });
    for (const name of names) {
      const curve = curves[name], at = curve.t.findIndex((v) => Math.abs(v - curve.best) < 1e-9);
      chart.drawing.append(lineOf(curve.t.map((v, i) => [chart.px(v), curve.iou[i] === null ? null : chart.py(curve.iou[i])]), looks[name]));
      if (at >= 0 && curve.iou[at] !== null) chart.drawing.append(svg("circle", { cx: chart.px(curve.best), cy: chart.py(curve.iou[at]), r: 4.5, fill: looks[name].stroke, stroke: "var(--ground)", "stroke-width": 1.5 }));
      keys.push([dash(looks[name]), `mean IoU, ${name}: best ${decimals(at >= 0 ? curve.iou[at] : null)} at ${decimals(curve.best, 2)}`]);
    }
    hoverColumns(chart, curves[names[0]].t.map(chart.px), (i) => [`threshold ${decimals(curves[names[0]].t[i], 2)}`, ...names.map((name) => `mean IoU, ${name}: ${decimals(curves[name].iou[i])}`)]);
  }
  if (along) {
    const part = el("div", {}), known = along.vice.filter((v) => v !== null);
    const low = Math.min(0, ...known), high = Math.max(0, ...known), room = Math.max(0.05, (high - low) * 0.1);
    box.append(part);
    const chart = frame(part, { height: 165, x: { ...ends, label: "threshold of the map" }, y: { low: low - (low < 0 ? room : 0), high: high + room, label: "VICE (strict)", ticks: ticksOf(low - (low < 0 ? room : 0), high + room, 4) },
      summary: `VICE (strict) of all pairs at one threshold, against the threshold: from ${decimals(Math.min(...known))} to ${decimals(Math.max(...known))}. The numbers are in the table below.` });
    chart.drawing.append(lineOf(along.t.map((v, i) => [chart.px(v), along.vice[i] === null ? null : chart.py(along.vice[i])]), { stroke: "var(--red)" }));
    hoverColumns(chart, along.t.map(chart.px), (i) => [`threshold ${decimals(along.t[i], 2)}`, `VICE (strict) ${decimals(along.vice[i])}`]);
    keys.push([dash({ stroke: "var(--red)" }), "VICE (strict), same threshold for all pairs"]);
  }
  legend(box, keys);
  lazyTable("curve-table", () => table("Threshold curve", ["threshold", ...names.map((name) => `mean IoU, ${name}`), ...(along ? ["VICE (strict)"] : [])],
    t.map((v, i) => [decimals(v, 2), ...names.map((name) => decimals(curves[name].iou[i])), ...(along ? [decimals(along.vice[i])] : [])])));
}

// Classes: a table of numbers with a small plot in every cell.
const classSort = { key: "name", down: false };

function dots(row, key, low, high) {
  const drawing = svg("svg", { viewBox: "0 0 200 18", preserveAspectRatio: "none", "aria-hidden": "true" });
  const px = (value) => 4 + (Math.min(Math.max(value, low), high) - low) / (high - low) * 192;
  drawing.append(svg("line", { x1: 4, x2: 196, y1: 9, y2: 9, stroke: "var(--rule)", "vector-effect": "non-scaling-stroke" }));
  if (low < 0) drawing.append(svg("line", { x1: px(0), x2: px(0), y1: 2, y2: 16, stroke: "var(--strong)", "vector-effect": "non-scaling-stroke" }));
  const line = (x1, x2, width) => svg("line", { x1, x2, y1: 9, y2: 9, stroke: "var(--blue)", "stroke-width": width, "stroke-linecap": "round", "vector-effect": "non-scaling-stroke" });
  if (key === "vice" && row.vice_low !== null && row.vice_high !== null) drawing.append(line(px(row.vice_low), px(row.vice_high), 2));
  if (row[key] !== null) drawing.append(line(px(row[key]), px(row[key]) + 0.01, 9));
  return drawing;
}

function drawClasses() {
  const box = byId("classes"), rows = [...currentModel().charts.classes];
  if (!rows.length) { box.replaceChildren(el("p", { class: "note" }, "No numbers by class: the measures of this table do not have them.")); return; }
  const heads = [["name", "Class"], ["pairs", "True pairs"], ["average_precision", "AP"], ["quality", QUALITY], ["vice", OTHER_QUALITY ? `VICE with ${QUALITY}` : "VICE (strict)"]];
  rows.sort((a, b) => compareKeys(a[classSort.key], b[classSort.key], classSort.down));
  // The lower end of a scale: 0, or below it as far as the numbers reach, such as those of VICE and faithfulness.
  const lowEnd = (key) => Math.max(-1, Math.min(0, ...rows.map((row) => row[`${key}_low`] ?? row[key] ?? 0)));
  const lows = { quality: lowEnd("quality"), vice: lowEnd("vice") };
  const cell = (row, key, from, to) => el("td", {}, el("div", { class: "dots" },
    el("span", { class: "num" }, decimals(row[key], 2), key === "vice" && row.vice_low !== null && row.vice_low !== undefined ? el("small", {}, intervalText(row.vice_low, row.vice_high, 2)) : null), dots(row, key, from, to)));
  box.replaceChildren(el("table", {},
    el("thead", {}, el("tr", {}, ...heads.map(([key, name]) => el("th", { scope: "col", class: key === "pairs" ? "num" : null, "aria-sort": classSort.key === key ? (classSort.down ? "descending" : "ascending") : "none" },
      el("button", { type: "button", onclick: () => { classSort.down = classSort.key === key ? !classSort.down : key !== "name"; classSort.key = key; drawClasses(); } }, `${name} ${classSort.key === key ? (classSort.down ? "▼" : "▲") : "↕"}`))))),
    el("tbody", {}, ...rows.map((row) => el("tr", {},
      el("th", { scope: "row" }, el("button", { type: "button", title: "Show the cases of this class", onclick: () => showClass(row.name) }, row.name)),
      el("td", { class: "num" }, String(row.pairs ?? "–")), cell(row, "average_precision", 0, 1), cell(row, "quality", lows.quality, 1), cell(row, "vice", lows.vice, 1))))));
}
