"use strict";
// The data of the page as typed arrays, and helpers that write to the page. Text is always set as text, never as HTML.
const D = JSON.parse(document.getElementById("data").textContent);
const ARRAYS = { u8: Uint8Array, u16: Uint16Array, i16: Int16Array, u32: Uint32Array, f32: Float32Array };

function bytesOf(text) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

function unpack(content) {
  for (const [name, value] of Object.entries(content)) {
    if (Array.isArray(value) && value.length === 2 && ARRAYS[value[0]] && typeof value[1] === "string") {
      content[name] = new ARRAYS[value[0]](bytesOf(value[1]).buffer);
    }
  }
}
unpack(D);
D.models.forEach(unpack);

const N = D.ids.length, E = D.entryImage ? D.entryImage.length : 0;
const COMPARED = D.models.length > 1, NO_QUADRANT = D.quadrants.length;
const PAIRS = E > 0 && D.entryClass.some((c) => c >= 0);
const state = { model: 0, entry: -1, label: -1, map: true, outline: true, opacity: 0.8, page: 0, found: [], lasso: null };
const currentModel = () => D.models[state.model];

const byId = (id) => document.getElementById(id);

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes || {})) if (value !== null) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function decimals(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "undefined";
  if (Math.abs(value) < 1e-12) return (0).toFixed(digits);
  const text = value.toFixed(digits);
  return Number(text) === 0 ? value.toPrecision(2) : text;
}

// As many decimals as two ends need to read as different, as in measures/wording.py.
function decimalsBetween(low, high, digits = 3) {
  const distance = Math.abs(high - low);
  return distance > 1e-12 && distance < Infinity ? Math.max(digits, Math.ceil(-Math.log10(distance / 2))) : digits;
}
function intervalText(low, high, digits = 3, write = decimals) {
  const most = decimalsBetween(low, high, digits);
  return `${write(low, most)} to ${write(high, most)}`;
}
const pText = (p) => (p >= 0.0005 ? p.toFixed(3) : "below 0.001");

// Two decimals, or as many as tell a value from the cutoff that decides its quadrant.
const besideCutoff = (value, cutoff) => decimals(value, cutoff === null || cutoff === undefined || Math.abs(value - cutoff) < 1e-6 ? 2 : decimalsBetween(value, cutoff, 2));
// A loss may be 1e-7: small values get two significant digits.
const nats = (value) => (value >= 0.01 || !(value > 0) ? decimals(value) : value.toPrecision(2));
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const announce = (text) => { byId("spoken").textContent = text; };
const plural = (count, one) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;

// Names are compared by the words and the numbers in them: m9 before m10, 0.05 before 0.5.
function compareNames(a, b) {
  const [first, second] = [a, b].map((name) => name.split(/(\d+(?:\.\d+)?(?:e[-+]?\d+)?)/));
  for (let at = 0; at < Math.min(first.length, second.length); at++) {
    const order = at % 2 ? Number(first[at]) - Number(second[at]) : first[at].localeCompare(second[at], "en");
    if (order) return order;
  }
  return first.length - second.length;
}

// The order of two keys, both numbers or both names. A missing one comes last in both directions.
function compareKeys(a, b, down) {
  if (a === null || b === null) return (a === null) - (b === null);
  const order = typeof a === "number" ? a - b : compareNames(a, b);
  return down ? -order : order;
}

function table(caption, heads, rows) {
  return el("table", {}, el("caption", {}, caption),
    el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col", class: "num" }, head)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((cell) => el("td", { class: "num" }, cell))))));
}

// The table of a figure is made when it is opened: fifty thousand rows would delay the start of the page.
function lazyTable(id, make) {
  const box = byId(id), details = box.closest("details");
  const update = () => { if (details.open) box.replaceChildren(make()); };
  details.ontoggle = update;
  update();
}

function labelsOf(name, image, holder = D) {
  return Array.from(holder[`${name}Of`].subarray(holder[`${name}At`][image], holder[`${name}At`][image + 1]));
}

const trueLabels = (image) => labelsOf("true", image);
const predictedLabels = (image, model = state.model) => labelsOf("said", image, D.models[model]);
const isPredicted = (image, c, model = state.model) => predictedLabels(image, model).includes(c);
const allRight = (image) => {
  const a = trueLabels(image), b = predictedLabels(image);
  return a.length === b.length && a.every((c, at) => c === b[at]);
};
const entriesAt = (() => {  // the entries of an image are adjacent
  const first = new Int32Array(N).fill(-1);
  for (let e = E - 1; e >= 0; e--) first[D.entryImage[e]] = e;
  return (image) => {
    const found = [];
    for (let e = first[image]; e >= 0 && e < E && D.entryImage[e] === image; e++) found.push(e);
    return found;
  };
})();
const entryOf = (image, label) => entriesAt(image).find((e) => D.entryClass[e] === label) ?? -1;
const shapeOf = (quadrant) => ["◆", "■", "●", "▲", "○"][quadrant];
const QUALITY = D.quality?.label ?? "IoU", OTHER_QUALITY = QUALITY !== "IoU";  // the quality of a pair, and whether it is another one than the IoU
const NO_QUADRANT_NAME = OTHER_QUALITY ? `no true pair, or undefined ${QUALITY}` : "no true pair";
const quadrantName = (quadrant) => (quadrant < NO_QUADRANT ? D.quadrants[quadrant][1] : NO_QUADRANT_NAME);

// The tooltip: next to the pointer or the focused element, inside the window.
const tip = byId("tip");

function showTip(x, y, ...content) {
  tip.replaceChildren(...content);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - width - 8))}px`;
  tip.style.top = `${y + 16 + height > innerHeight ? Math.max(8, y - height - 12) : y + 16}px`;
}

const hideTip = () => { tip.hidden = true; };
