// Loss against IoU, with hover, click, lasso and keys. Points are drawn on a canvas: fifty thousand take one frame.
const plot = { kind: PAIRS ? "pairs" : "images", points: null, order: null, at: -1, lassoMode: false };
const LEAST_LOSS = 1e-6;  // a smaller loss is drawn at this value
const SHAPES = [["red", "diamond"], ["brown", "square"], ["blue", "circle"], ["grey", "triangle"], ["grey", "ring"]];

function shape(context, kind, x, y, r) {
  context.beginPath();
  if (kind === "square") context.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8);
  else if (kind === "diamond") { context.moveTo(x, y - r * 1.3); context.lineTo(x + r * 1.3, y); context.lineTo(x, y + r * 1.3); context.lineTo(x - r * 1.3, y); }
  else if (kind === "triangle") { context.moveTo(x, y - r * 1.2); context.lineTo(x + r * 1.15, y + r); context.lineTo(x - r * 1.15, y + r); }
  else context.arc(x, y, r, 0, 2 * Math.PI);
  context.closePath();
}

function sprite([ink, kind], r, scale) {
  const canvas = document.createElement("canvas"), half = Math.ceil(r * 1.6 + 1);
  canvas.width = canvas.height = 2 * half * scale;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  shape(context, kind, half, half, r);
  context.globalAlpha = 0.72;
  context.fillStyle = context.strokeStyle = colour(ink);
  if (kind === "ring") context.stroke(); else context.fill();
  context.globalAlpha = 1;
  context.strokeStyle = colour("ground");
  context.lineWidth = 0.5;
  if (kind !== "ring" && r > 2.5) context.stroke();
  return [canvas, half];
}

// The points of a kind: x is log10 of the loss, y the IoU or JI score, `look` the shape, `entry` the case of a click.
function pointsOf(kind) {
  const model = currentModel(), x = [], y = [], look = [], entry = [];
  let missing = 0;
  const add = (loss, quality, which, e) => {
    if (Number.isNaN(loss) || Number.isNaN(quality)) { missing++; return; }
    x.push(Math.log10(Math.max(loss, LEAST_LOSS))); y.push(quality); look.push(which); entry.push(e);
  };
  if (kind === "pairs") {
    for (let e = 0; e < E; e++) if (D.entryClass[e] >= 0) add(model.pairLoss[e], model.iou[e], model.quadrant[e], e);
  } else {
    for (let i = 0; i < N; i++) {
      const own = entriesAt(i), strongest = own.reduce((a, b) => (model.strength[b] > model.strength[a] ? b : a), own[0]);
      add(model.loss[i], model.ji[i], allRight(i) ? 2 : 0, strongest);
    }
  }
  return { x: Float64Array.from(x), y: Float64Array.from(y), look, entry, missing };
}

function drawScatter() {
  const box = byId("scatter"), points = plot.points = pointsOf(plot.kind), count = points.x.length;
  const pairs = plot.kind === "pairs", quality = pairs ? `${QUALITY} of the pair` : "JI score of the image";
  describeScatter(points, pairs);
  if (!count) { showNote(box, N ? `Nothing to draw: no ${pairs ? `pair has ${QUALITY === "IoU" ? "an IoU" : QUALITY}` : "image has a JI score"}.` : "Nothing to draw: the numbers come from a table without images."); return; }
  const details = box.parentElement.querySelector("details");
  details.hidden = false;
  let low = Infinity, high = -Infinity;
  for (const v of points.x) { low = Math.min(low, v); high = Math.max(high, v); }
  low = Math.max(Math.floor(low - 0.05), Math.log10(LEAST_LOSS) - 0.25); high = Math.max(Math.ceil(high + 0.05), low + 1);
  const first = Math.ceil(low - 1e-9), apart = Math.ceil((high - first) / Math.max(2, box.clientWidth / 75));
  const decades = Array.from({ length: Math.floor((high - first) / apart) + 1 }, (_, k) => first + k * apart);
  let below = 0;  // faithfulness may be negative
  for (const v of points.y) below = Math.min(below, Math.floor(v * 10) / 10);
  const holder = el("div", {});
  holder.style.position = "relative";
  box.replaceChildren(holder);
  const strip = pairs && named(box.clientWidth) ? 0.06 : 0;  // room for the names of the quadrants beside the points
  const height = Math.min(460, Math.max(300, box.clientWidth * 0.45));
  const chart = frame(holder, { height, x: { low, high, ticks: decades, format: power, label: `loss of the ${pairs ? "pair" : "image"}, nats, logarithmic` },
    y: { low: below - strip, high: 1 + strip, ticks: below ? [-1, -0.5, 0, 0.5, 1].filter((tick) => tick >= below) : [0, 0.2, 0.4, 0.6, 0.8, 1], label: quality }, summary: `Scatter plot of ${plural(count, pairs ? "pair" : "image")}: ${quality} against loss. The arrow keys move along the loss, Enter opens a case.` });
  const scale = Math.max(2, window.devicePixelRatio || 1), canvas = el("canvas", { "aria-hidden": "true" });
  canvas.width = chart.width * scale;
  canvas.height = height * scale;
  canvas.style.width = `${chart.width}px`;
  const context = canvas.getContext("2d"), r = count > 20000 ? 1.4 : count > 4000 ? 2.2 : count > 800 ? 3 : 4.2;
  const sprites = SHAPES.map((look) => sprite(look, r, scale));
  const cells = new Map();
  points.px = new Float32Array(count);
  points.py = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const x = points.px[i] = chart.px(points.x[i]), y = points.py[i] = chart.py(points.y[i]), [drawn, half] = sprites[points.look[i]];
    context.drawImage(drawn, (x - half) * scale, (y - half) * scale);
    const key = (x >> 4) * 4096 + (y >> 4);
    if (cells.has(key)) cells.get(key).push(i); else cells.set(key, [i]);
  }
  points.cells = cells;
  Object.assign(chart.drawing.style, { position: "absolute", inset: 0 });
  chart.drawing.setAttribute("tabindex", "0");
  chart.drawing.style.touchAction = plot.lassoMode ? "none" : "pan-y";
  holder.prepend(canvas);
  if (pairs && D.cutoffs) marks(chart, low, high);
  chart.ring = svg("circle", { r: r + 5, fill: "none", stroke: "var(--ink)", "stroke-width": 2, visibility: "hidden" });
  chart.loop = svg("path", { fill: "var(--sky)", "fill-opacity": 0.15, stroke: "var(--ink)", "stroke-dasharray": "4 3", visibility: "hidden" });
  chart.drawing.append(chart.ring, chart.loop);
  plot.order = null;
  plot.chart = chart;
  listen(chart);
  lazyTable("scatter-table", () => {
    const first = Array.from(points.entry.keys()).slice(0, 500);
    const head = pairs ? ["image", "class", "loss", QUALITY, "quadrant"] : ["image", "loss", "JI score", "all labels right"];
    return table(count > 500 ? `The first 500 of ${count} points; the case browser has all` : "All points", head, first.map((i) => {
      const e = points.entry[i], image = D.entryImage[e], loss = nats(10 ** points.x[i]);
      return pairs ? [D.ids[image], D.classes[D.entryClass[e]], loss, decimals(points.y[i]), quadrantName(points.look[i])] : [D.ids[image], loss, decimals(points.y[i]), points.look[i] === 2 ? "yes" : "no"];
    }));
  });
}

// Whether the names of the quadrants are written in the corners: where there is room, and the borders apply.
function named(width) {
  return Boolean(D.cutoffs) && D.by.name === D.quality.name && width >= 620;
}

// The borders of the quadrants, and their names in the corners if there is room.
function marks(chart, low, high) {
  const x = chart.px(Math.log10(-Math.log(D.cutoffs.probability))), y = chart.py(D.cutoffs.iou);
  const line = { stroke: "var(--ink)", "stroke-width": 1, "stroke-dasharray": "6 4", "stroke-opacity": 0.7 };
  if (D.cutoffs.probability !== null && x < chart.end) chart.drawing.append(svg("line", { x1: x, x2: x, y1: chart.top, y2: chart.foot, ...line }));
  if (D.by.name !== D.quality.name) return;  // the line of the IoU does not apply to another quality
  chart.drawing.append(svg("line", { x1: chart.left, x2: chart.end, y1: y, y2: y, ...line }));
  if (!named(chart.width)) return;
  const halo = { style: "paint-order:stroke;stroke:var(--ground);stroke-width:4px;font-weight:600" };
  const write = (words, at, up, anchor) => chart.drawing.append(chart.text(words, { x: at, y: up, "text-anchor": anchor, ...halo }));
  D.quadrants.forEach(([key, words], q) => {
    const right = ["right_elsewhere", "both_good"].includes(key), there = ["wrong_there", "both_good"].includes(key);
    write(`${shapeOf(q)} ${words}`, right ? chart.left + 8 : chart.end - 8, there ? chart.top + 12 : chart.foot - 8, right ? "start" : "end");
  });
}

function describeScatter(points, pairs) {
  const cut = D.cutoffs && D.cutoffs.probability, likeliest = "A class is found where it is the likeliest.";
  const words = byId("scatter-said"), tools = byId("scatter-tools"), model = currentModel();
  words.textContent = pairs
    ? `Each true (image, class) pair${COMPARED ? " that all models share" : ""}: loss is -ln p of its class. ${D.by.name === D.quality.name ? cut === null ? `${likeliest} The line is ${QUALITY} = ${D.cutoffs.iou}.` : `Lines: p = ${cut} and ${QUALITY} = ${D.cutoffs.iou}, which are the same for all data.` : `${cut === null ? likeliest : `The line is p = ${cut}.`} The quadrants use the IoU, because ${QUALITY} does not tell where a map lies.`}`
    : `Each image${COMPARED ? " that all models share" : ""}: its loss over all classes, and its JI score at threshold 0.1.`;
  if (points.missing) words.textContent += ` ${plural(points.missing, pairs ? "pair" : "image")} without a loss or ${pairs ? QUALITY : "JI score"} ${points.missing === 1 ? "is" : "are"} not drawn.`;
  if (points.x.some((v) => v <= Math.log10(LEAST_LOSS) + 1e-9)) words.textContent += ` A loss below ${power(Math.log10(LEAST_LOSS))} is drawn at that value.`;
  tools.replaceChildren();
  if (!N) return;
  if (PAIRS) {
    for (const [kind, name] of [["pairs", "Pairs"], ["images", "Images"]]) {
      tools.append(el("button", { type: "button", "aria-pressed": String(plot.kind === kind), onclick: () => { plot.kind = kind; plot.at = -1; drawScatter(); } }, name));
    }
  }
  tools.append(el("button", { type: "button", id: "lasso-mode", "aria-pressed": String(plot.lassoMode), title: "On a touch screen: draw to select instead of scrolling", onclick: () => { plot.lassoMode = !plot.lassoMode; drawScatter(); } }, "Lasso"));
  const tally = new Array(SHAPES.length).fill(0);
  points.look.forEach((look) => { tally[look]++; });
  const glyph = (look) => { const mark = el("b", { "aria-hidden": "true" }, shapeOf(look)); mark.style.color = `var(--${SHAPES[look][0]})`; return mark; };
  const entries = pairs ? D.quadrants.map(([, name], q) => [glyph(q), `${name}: ${tally[q]}`]) : [[glyph(2), `all labels right: ${tally[2]}`], [glyph(0), `some label wrong: ${tally[0]}`]];
  legend(tools, entries);
  tools.append(el("span", { id: "lasso-said", role: "status" }));
  if (model && state.lasso) describeLasso();
}

function nearestPoint(x, y, reach = 12) {
  const { px, py, cells } = plot.points;
  let best = -1, least = reach * reach;
  for (let cx = (x - reach) >> 4; cx <= (x + reach) >> 4; cx++) {
    for (let cy = (y - reach) >> 4; cy <= (y + reach) >> 4; cy++) {
      for (const i of cells.get(cx * 4096 + cy) || []) {
        const away = (px[i] - x) ** 2 + (py[i] - y) ** 2;
        if (away < least) { least = away; best = i; }
      }
    }
  }
  return best;
}

function pointText(i) {
  const { x, y, entry, look } = plot.points, e = entry[i], image = D.entryImage[e], c = D.entryClass[e];
  const lines = [`${D.ids[image]}${plot.kind === "pairs" ? ` · ${D.classes[c]}` : ""}`, `loss ${nats(10 ** x[i])}, ${plot.kind === "pairs" ? QUALITY : "JI score"} ${decimals(y[i])}`];
  return [...lines, plot.kind === "pairs" ? `${shapeOf(look[i])} ${quadrantName(look[i])}` : look[i] === 2 ? "✓ all labels right" : "✗ some label wrong"];
}

function ringAt(i) {
  plot.at = i;
  const ring = plot.chart.ring;
  ring.setAttribute("visibility", i < 0 ? "hidden" : "visible");
  if (i >= 0) { ring.setAttribute("cx", plot.points.px[i]); ring.setAttribute("cy", plot.points.py[i]); }
}

function tipOfPoint(i, x, y) {
  const e = plot.points.entry[i], image = D.entryImage[e], label = D.entryClass[e] >= 0 ? D.entryClass[e] : trueLabels(image)[0] ?? -1;
  const words = pointText(i).map((line) => el("p", {}, line));
  showTip(x, y, ...(D.kept && D.kept[image] ? [view(image, label, state.model, { side: 120 })] : []), ...words);
}

function inside(x, y, loop) {
  let odd = false;
  for (let i = 0, j = loop.length - 1; i < loop.length; j = i++) {
    const [xi, yi] = loop[i], [xj, yj] = loop[j];
    if ((yi > y) !== (yj > y) && x < (xj - xi) * (y - yi) / (yj - yi) + xi) odd = !odd;
  }
  return odd;
}

function selectLoop(loop) {
  const { px, py, entry } = plot.points, chosen = new Uint8Array(E);
  for (let i = 0; i < px.length; i++) {
    if (!inside(px[i], py[i], loop)) continue;
    if (plot.kind === "pairs") chosen[entry[i]] = 1;
    else for (const e of entriesAt(D.entryImage[entry[i]])) chosen[e] = 1;
  }
  const count = chosen.reduce((sum, one) => sum + one, 0);
  state.lasso = count ? chosen : null;
  refilter();
  describeLasso(count);
}

function describeLasso(count = state.lasso.reduce((sum, one) => sum + one, 0)) {
  const words = byId("lasso-said");
  words.replaceChildren(count ? `${plural(count, "pair")} selected. ` : "No points in the lasso. ", count ? el("a", { href: "#cases" }, "Show them") : "");
}

function listen(chart) {
  const drawing = chart.drawing;
  let loop = null, waiting = false;
  const place = (event) => { const box = drawing.getBoundingClientRect(); return [(event.clientX - box.left) * chart.width / box.width, (event.clientY - box.top) * chart.width / box.width]; };
  drawing.addEventListener("pointerdown", (event) => {
    if (event.button || (event.pointerType === "touch" && !plot.lassoMode)) return;
    loop = [place(event)];
    drawing.setPointerCapture(event.pointerId);
  });
  drawing.addEventListener("pointermove", (event) => {
    const at = place(event);
    if (loop) {
      loop.push(at);
      chart.loop.setAttribute("d", `M${loop.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}Z`);
      chart.loop.setAttribute("visibility", "visible");
      hideTip();
      return;
    }
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      const i = nearestPoint(...at);
      if (i === plot.at && !tip.hidden) return;
      ringAt(i);
      drawing.style.cursor = i < 0 ? "crosshair" : "pointer";
      if (i < 0) hideTip(); else tipOfPoint(i, event.clientX, event.clientY);
    });
  });
  drawing.addEventListener("pointerup", (event) => {
    const drawn = loop;
    loop = null;
    chart.loop.setAttribute("visibility", "hidden");
    const reach = drawn ? Math.max(...drawn.map(([x, y]) => Math.hypot(x - drawn[0][0], y - drawn[0][1]))) : 0;
    if (drawn && reach > 8) { selectLoop(drawn); return; }
    const i = nearestPoint(...place(event));
    if (i >= 0) { hideTip(); openEntry(plot.points.entry[i], true); }
  });
  drawing.addEventListener("pointercancel", () => { loop = null; chart.loop.setAttribute("visibility", "hidden"); });
  drawing.addEventListener("pointerleave", () => { if (!loop) { ringAt(-1); hideTip(); } });
  drawing.addEventListener("blur", () => { ringAt(-1); hideTip(); });
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (event.key === "Enter" && plot.at >= 0) { hideTip(); openEntry(plot.points.entry[plot.at], true); event.preventDefault(); }
    if (!step) return;
    event.preventDefault();
    plot.order ??= Array.from(plot.points.x.keys()).sort((a, b) => plot.points.x[a] - plot.points.x[b]);
    const here = plot.order.indexOf(plot.at), next = here < 0 ? 0 : Math.min(Math.max(here + step, 0), plot.order.length - 1), i = plot.order[next];
    ringAt(i);
    const box = drawing.getBoundingClientRect();
    tipOfPoint(i, box.left + plot.points.px[i], box.top + plot.points.py[i]);
    announce(pointText(i).join(", "));
  });
}
