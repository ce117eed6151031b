// The case browser: filters and a sort order give a list of cases, one of which is open.
const PAGE = 24;
const SORTS = [
  ...(COMPARED ? [["disagreement", "disagreement of the models"]] : []),
  ["quadrant", "quadrant, strongest first"], ["strength", "strongest first, any quadrant"], ["loss-down", "highest loss"], ["loss-up", "lowest loss"],
  ["iou-up", `lowest ${QUALITY}`], ["iou-down", `highest ${QUALITY}`], ["id", "id"],
];
const sizeOf = (area) => (Number.isNaN(area) ? null : area < 0.05 ? 0 : area <= 0.2 ? 1 : 2);

function setUpFilters() {
  const option = (value, text) => el("option", { value }, text);
  byId("f-sort").append(...SORTS.filter(([key]) => PAIRS || ["loss-down", "loss-up", "id"].includes(key)).map(([key, text]) => option(key, text)));
  byId("f-class").append(option("", "any"), ...D.classes.map((name, c) => option(String(c), name)));
  fillQuadrants();
  for (const id of ["f-quadrant", "f-class", "f-size", "f-right", "f-sort"]) byId(id).addEventListener("change", () => refilter());
  byId("f-id").addEventListener("input", () => refilter());
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("f-lasso").addEventListener("click", () => { state.lasso = null; byId("lasso-said")?.replaceChildren(); refilter(); });
  byId("f-clear").addEventListener("click", clearFilters);
  byId("page-back").addEventListener("click", () => turnTo(state.page - 1));
  byId("page-on").addEventListener("click", () => turnTo(state.page + 1));
}

function fillQuadrants() {
  const select = byId("f-quadrant"), chosen = select.value, tally = new Array(NO_QUADRANT + 1).fill(0);
  for (const q of currentModel().quadrant) tally[q]++;
  const rows = D.quadrants.map(([, words], q) => [String(q), `${shapeOf(q)} ${words} (${tally[q]})`]);
  if (tally[NO_QUADRANT]) rows.push([String(NO_QUADRANT), `${shapeOf(NO_QUADRANT)} ${NO_QUADRANT_NAME} (${tally[NO_QUADRANT]})`]);
  select.replaceChildren(el("option", { value: "" }, "any"), ...rows.map(([value, words]) => el("option", { value }, words)));
  select.value = chosen;
}

function resetFilters() {
  for (const id of ["f-quadrant", "f-class", "f-size", "f-right", "f-id"]) byId(id).value = "";
  state.lasso = null;
  byId("lasso-said")?.replaceChildren();
}

function clearFilters() {
  resetFilters();
  refilter();
}

function showClass(name) {
  newPlace();
  resetFilters();
  byId("f-class").value = String(D.classes.indexOf(name));
  refilter();
  byId("cases").scrollIntoView();
  byId("f-class").focus({ preventScroll: true });
}

function passes(e, wanted) {
  const model = currentModel(), image = D.entryImage[e], c = D.entryClass[e];
  if (wanted.quadrant !== "" && model.quadrant[e] !== Number(wanted.quadrant)) return false;
  if (wanted.label !== "" && (c >= 0 ? c !== Number(wanted.label) : !trueLabels(image).includes(Number(wanted.label)))) return false;
  if (wanted.size !== "" && sizeOf(D.area[e]) !== Number(wanted.size)) return false;
  if (wanted.right === "all" && !allRight(image)) return false;
  if (wanted.right === "some" && allRight(image)) return false;
  if (wanted.right === "found" && !isPredicted(image, c)) return false;
  if (wanted.right === "missed" && (c < 0 || isPredicted(image, c))) return false;
  if (wanted.id && !D.ids[image].toLowerCase().includes(wanted.id)) return false;
  return !state.lasso || state.lasso[e] === 1;
}

function sortKey(key) {
  const model = currentModel(), last = (value) => (Number.isNaN(value) ? Infinity : value);
  const loss = PAIRS ? (e) => model.pairLoss[e] : (e) => model.loss[D.entryImage[e]];
  return {
    disagreement: (e) => -D.disagreement[e],
    quadrant: (e) => model.quadrant[e] * 2 - model.strength[e],
    strength: (e) => -model.strength[e],
    "loss-down": (e) => last(-loss(e)), "loss-up": (e) => last(loss(e)),
    "iou-up": (e) => last(model.iou[e]), "iou-down": (e) => last(-model.iou[e]), id: (e) => e,
  }[key];
}

// Updates the list. The open case stays open if it is in the list; else the first case of the list is opened.
function refilter() {
  if (!E) return;
  list();
  if (state.found.length && !state.found.includes(state.entry)) {
    openEntry(state.found[0], false);
    announceCase();
  } else { steps(); writeAddress(); }
}

function list() {
  const wanted = { quadrant: byId("f-quadrant").value, label: byId("f-class").value, size: byId("f-size").value, right: byId("f-right").value, id: byId("f-id").value.trim().toLowerCase() };
  const found = [];
  for (let e = 0; e < E; e++) if (passes(e, wanted)) found.push(e);
  const key = sortKey(byId("f-sort").value), keys = new Float64Array(E);
  for (const e of found) keys[e] = key(e);
  state.found = found.sort((a, b) => keys[a] - keys[b] || a - b);
  const images = new Set(found.map((e) => D.entryImage[e])).size, what = PAIRS ? plural(found.length, "case") : plural(images, "image");
  byId("found").textContent = found.length
    ? `${what}${PAIRS ? ` of ${plural(images, "image")}` : ""}.`
    : "No image meets these filters: remove one, or clear all filters.";
  const lasso = byId("f-lasso");
  lasso.hidden = !state.lasso;
  if (state.lasso) lasso.textContent = `Lasso: ${state.lasso.reduce((sum, one) => sum + one, 0)} ✕`;
  turnTo(Math.max(0, Math.floor(state.found.indexOf(state.entry) / PAGE)));
}

function card(e) {
  const model = currentModel(), image = D.entryImage[e], c = D.entryClass[e], q = model.quadrant[e];
  const label = c >= 0 ? c : trueLabels(image)[0] ?? -1;
  const numbers = c >= 0 ? `${shapeOf(q)} p ${besideCutoff(model.probability[e], D.cutoffs?.probability)} · ${QUALITY} ${besideCutoff(model.iou[e], D.cutoffs?.iou)}` : `loss ${nats(model.loss[image])}`;
  const node = el("div", { class: "card", role: "option", id: `card-${e}`, "aria-selected": String(e === state.entry), "aria-label": c >= 0 ? `${D.classes[c]} ${D.ids[image]} ${numbers}, ${quadrantName(q)}` : `${D.ids[image]} no true pair ${numbers}` },
    view(image, label, state.model, { side: 64 }), el("b", {}, c >= 0 ? D.classes[c] : D.ids[image]), " ", el("span", {}, c >= 0 ? D.ids[image] : "no true pair"), " ", el("span", {}, numbers));
  node.addEventListener("click", () => openEntry(e, false));
  return node;
}

function turnTo(page) {
  const pages = Math.max(1, Math.ceil(state.found.length / PAGE));
  state.page = Math.min(Math.max(page, 0), pages - 1);
  const first = state.page * PAGE, shown = state.found.slice(first, first + PAGE);
  byId("list").replaceChildren(...shown.map(card));
  byId("page-said").textContent = state.found.length ? `${first + 1} to ${first + shown.length} of ${state.found.length.toLocaleString("en")}` : "none";
  byId("page-back").disabled = state.page === 0;
  byId("page-on").disabled = state.page >= pages - 1;
  markCard();
}

function markCard() {
  const list = byId("list");
  for (const node of list.children) node.setAttribute("aria-selected", String(node.id === `card-${state.entry}`));
  const chosen = byId(`card-${state.entry}`);
  if (!chosen) { list.removeAttribute("aria-activedescendant"); return; }
  list.setAttribute("aria-activedescendant", chosen.id);
  // Scrolls only the list: scrollIntoView would also scroll the page.
  const top = chosen.offsetTop - list.offsetTop, left = chosen.offsetLeft - list.offsetLeft;
  if (top < list.scrollTop || top + chosen.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top - 8;
  if (left < list.scrollLeft || left + chosen.offsetWidth > list.scrollLeft + list.clientWidth) list.scrollLeft = left - 8;
}

function openEntry(e, scroll, named = true, label = null) {
  const image = D.entryImage[e];
  if (scroll && named) newPlace();
  state.entry = e;
  state.label = label ?? (D.entryClass[e] >= 0 ? D.entryClass[e] : trueLabels(image)[0] ?? -1);
  const at = state.found.indexOf(e);
  if (at >= 0 && Math.floor(at / PAGE) !== state.page) turnTo(Math.floor(at / PAGE));
  markCard();
  drawCase();
  if (named) writeAddress();
  if (scroll) {
    byId("case").scrollIntoView({ block: "start" });
    byId("case").focus({ preventScroll: true });
  }
}

function stepBy(step) {
  const at = state.found.indexOf(state.entry), next = at < 0 ? 0 : at + step;
  if (next < 0 || next >= state.found.length) return;
  openEntry(state.found[next], false);
  announceCase();
}

function announceCase() {
  const e = state.entry;
  announce(`${D.ids[D.entryImage[e]]}${D.entryClass[e] >= 0 ? `, ${D.classes[D.entryClass[e]]}, ${quadrantName(currentModel().quadrant[e])}` : ""}`);
}

function chip(c, right, words) {
  return el("li", { class: right ? "right" : "wrong" }, `${right ? "✓" : "✗"} ${D.classes[c]}${words}`);
}

function chips(title, labels, other, probability, miss) {
  const list = labels.map((c) => chip(c, other.includes(c), `${probability(c)}${other.includes(c) ? "" : ` (${miss})`}`));
  return el("div", { class: "whole" }, el("dt", {}, title), el("dd", {}, el("ul", { class: "chips" }, ...(list.length ? list : [el("li", {}, "none")]))));
}

function fact(name, value, key) {
  return el("div", {}, el("dt", {}, key ? termNode(name, key) : name), el("dd", {}, value));
}

function termNode(text, key) {
  return el("span", { class: "term", role: "term", tabindex: "0", "data-term": key, "aria-describedby": `def-${key}` }, text);
}

// The numbers of one model for a label of an image.
function facts(image, label, m, content) {
  const model = D.models[m], e = entryOf(image, label), pair = e >= 0 && D.entryClass[e] >= 0;
  const known = content ? content.q[m].find(([c]) => c === label) : null, p = pair ? model.probability[e] : known ? known[1] : NaN;
  const status = content && content.m[m][label] ? content.m[m][label][3] : "none";
  const rows = [
    ...(label >= 0 ? [fact("Probability", `${Number.isNaN(p) ? "not on this page" : decimals(p)} (${isPredicted(image, label, m) ? "predicted" : "not predicted"})`, "probability")] : []),
    fact(`${QUALITY[0].toUpperCase()}${QUALITY.slice(1)} of the pair`, pair ? decimals(model.iou[e]) : "no true pair", "iou"),
    ...(pair ? [fact("Loss of the pair", `${nats(model.pairLoss[e])} nats`, "loss"), fact("Quadrant", `${shapeOf(model.quadrant[e])} ${quadrantName(model.quadrant[e])}`, "quadrant"),
      fact("Strength", decimals(model.strength[e], 2), "strength"), fact("Object size", `${(100 * D.area[e]).toFixed(1)} % of the image`, "size")] : []),
    fact("Image: loss", `${nats(model.loss[image])} nats`, "loss"), fact("Image: JI score", decimals(model.ji[image]), "image_ji"),
    fact("Image: confidence", decimals(model.confidence[image]), "confidence"),
    ...(COMPARED && pair && m === 0 ? [fact("Disagreement", decimals(D.disagreement[e], 2), "disagreement")] : []),
    ...(content && status !== "ok" ? [fact("Map", status === "none" ? "not explained" : status)] : []),
  ];
  const probability = (c) => { const found = content ? content.q[m].find(([k]) => k === c) : null; return found ? ` ${found[1].toFixed(2)}` : ""; };
  const truth = trueLabels(image), guess = predictedLabels(image, m);
  return el("dl", { class: "measured" }, ...rows, chips("True labels", truth, guess, probability, "missed"), chips("Predicted", guess, truth, probability, "wrong"));
}

let drawn = 0;
async function drawCase() {
  const turn = ++drawn, e = state.entry, image = D.entryImage[e], box = byId("case"), label = state.label;
  const title = el("h3", {}, D.ids[image]);
  const head = el("div", { class: "case-head" }, el("div", {}, title, el("div", { id: "case-place" })),
    el("div", { class: "steps" }, el("button", { type: "button", id: "case-back", "aria-keyshortcuts": "ArrowLeft k", onclick: () => stepBy(-1) }, "‹ Previous"), el("button", { type: "button", id: "case-on", "aria-keyshortcuts": "ArrowRight j", onclick: () => stepBy(1) }, "Next ›")));
  const content = await caseOf(image);
  if (turn !== drawn) return;
  const maps = content ? content.m.flatMap((own) => Object.keys(own).map(Number)) : [], masked = content && content.o ? Object.keys(content.o).map(Number) : [];
  const labels = [...new Set([...trueLabels(image), ...maps, ...masked, ...(label >= 0 ? [label] : [])])].filter((c) => c < D.classes.length).sort((a, b) => a - b);
  const switches = el("div", { class: "labels", role: "group", "aria-label": "Label shown" }, ...labels.map((c) => el("button", { type: "button", "aria-pressed": String(c === label), onclick: () => openLabel(c) },
    `${D.classes[c]}${trueLabels(image).includes(c) ? "" : " (not a true label)"}`)));
  const options = { natural: true, side: 224 }, views = el("div", { class: "views" });
  D.models.forEach((model, m) => {
    const picture = view(image, label, m, { ...options, map: state.map, lines: state.outline });
    views.append(el("div", {}, COMPARED ? el("h4", {}, model.name) : "", picture, COMPARED ? facts(image, label, m, content) : ""));
  });
  if (!COMPARED && content && content.p) views.append(el("div", {}, view(image, label, 0, { ...options, map: false, lines: true })));
  box.replaceChildren(head, ...(labels.length ? [switches] : []), views, caseTools(content), ...(COMPARED ? [] : [facts(image, label, 0, content)]));
  if (!content) views.after(el("p", { class: "note" }, D.kept[image] ? "The case of this image cannot be read." : `This page has the numbers of this image, but no case: it is not among the ${D.chosen}.`));
  steps();
}

function openLabel(c) {
  const image = D.entryImage[state.entry], own = entryOf(image, c);
  state.label = c;
  if (own >= 0) { openEntry(own, false); return; }
  drawCase();
  writeAddress();
}

function caseTools(content) {
  const slider = el("input", { type: "range", id: "opacity", min: "0", max: "100", value: String(Math.round(100 * state.opacity)), "aria-label": "Opacity of the map", oninput: (event) => { state.opacity = Number(event.target.value) / 100; fade(); } });
  const toggle = (id, words, key, name) => el("button", { type: "button", id, "aria-pressed": String(state[name]), "aria-keyshortcuts": key, onclick: () => { state[name] = !state[name]; drawCase(); } }, words);
  const ramp = el("canvas", { class: "ramp", width: "96", height: "1", "aria-hidden": "true" }), context = ramp.getContext("2d");
  for (let x = 0; x < 96; x++) {
    const v = Math.round(x / 95 * 255), a = HEAT[4 * v + 3] / 255, mix = (k) => Math.round(HEAT[4 * v + k] * a + 128 * (1 - a));
    context.fillStyle = `rgb(${mix(0)} ${mix(1)} ${mix(2)})`;
    context.fillRect(x, 0, 1, 1);
  }
  return el("div", {}, el("div", { class: "case-tools" }, toggle("map-on", "Map", "m", "map"), el("label", {}, "Opacity", slider), toggle("outline-on", "Outlines", "o", "outline")),
    el("p", { class: "key" }, "map 0", ramp, "1", content && content.g ? "; thick line: the object of this label, thin: other objects" : content && content.p ? "; no mask" : "",
      ...(content && content.v ? ["; ", swatch(svg("rect", { width: 22, height: 12, fill: "#ffffff" }), ...[-6, 0, 6, 12, 18].map((x) => svg("path", { d: `M${x} 12l12 -12h4l-12 12z`, fill: "#202020" }))), " void: counted by no measure"] : [])));
}

function fade() {
  for (const canvas of document.querySelectorAll(".view canvas")) canvas.style.opacity = String(state.opacity);
  for (const picture of document.querySelectorAll(".view img")) if (picture.style.filter) picture.style.filter = `grayscale(${state.opacity})`;
}

function steps() {
  const at = state.found.indexOf(state.entry), place = byId("case-place");
  if (!place) return;
  place.textContent = at >= 0 ? `case ${at + 1} of ${state.found.length.toLocaleString("en")}` : "not among the cases found";
  byId("case-back").disabled = at <= 0;
  byId("case-on").disabled = at >= 0 ? at + 1 >= state.found.length : !state.found.length;
}
