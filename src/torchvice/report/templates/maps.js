// Cases: loaded on demand, drawn from a thumbnail, a low-resolution map and the outlines of the mask.
const loaded = new Map(), pending = new Map();
let ready = document.readyState !== "loading";
const pageLoaded = ready ? Promise.resolve() : new Promise((done) => {
  document.addEventListener("DOMContentLoaded", () => { ready = true; done(); });
});

function keep(image, content) {
  loaded.set(image, content);
  if (loaded.size > 400) loaded.delete(loaded.keys().next().value);
  return content;
}

// In a folder every case is a separate script that calls this function, because a page from disk may not fetch files.
function viceCase(image, content) {
  keep(image, content);
}

// All that wait for a case share one promise.
function caseOfFile(image) {
  if (!pending.has(image)) {
    const script = el("script", { src: `cases/${String(Math.floor(image / 1000)).padStart(3, "0")}/${image}.js` });
    pending.set(image, new Promise((done) => {
      script.addEventListener("load", () => done(loaded.get(image) ?? null));
      script.addEventListener("error", () => done(null));
      document.head.append(script);
    }).finally(() => { script.remove(); pending.delete(image); }));
  }
  return pending.get(image);
}

async function caseOf(image) {
  if (loaded.has(image)) return loaded.get(image);
  if (!D.kept || !D.kept[image]) return null;
  if (D.folder) return caseOfFile(image);
  // The cases come after the scripts in the file, so that the page works while they load.
  if (!byId(`c${image}`)) await pageLoaded;
  const holder = byId(`c${image}`);
  return holder ? keep(image, JSON.parse(holder.textContent)) : null;
}

const HEAT = (() => {
  const stops = D.heat.map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const table = new Uint8Array(256 * 4);
  for (let v = 0; v < 256; v++) {
    // The first seventh of the colours is left out: near black, they would look like shadows in the photograph.
    const at = (0.15 + 0.85 * v / 255) * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2);
    for (let k = 0; k < 3; k++) table[4 * v + k] = stops[low][k] + (at - low) * (stops[low + 1][k] - stops[low][k]);
    table[4 * v + 3] = 0.85 * v;
  }
  return table;
})();

// For each of n pixels its lower cell in a map of m cells, and the weight of the next one; edges are aligned.
function cellsOf(n, m) {
  const low = new Int32Array(n), share = new Float32Array(n);
  for (let i = 0; i < n; i++) {
    const at = Math.min(Math.max((i + 0.5) * m / n - 0.5, 0), m - 1);
    low[i] = Math.min(Math.floor(at), Math.max(0, m - 2));
    share[i] = m > 1 ? at - low[i] : 0;
  }
  return [low, share];
}

function drawMap(canvas, [rows, columns, text], width, height) {
  canvas.width = width;
  canvas.height = height;
  const values = bytesOf(text), context = canvas.getContext("2d"), picture = context.createImageData(width, height);
  const [top, down] = cellsOf(height, rows), [left, across] = cellsOf(width, columns);
  const right = columns > 1 ? 1 : 0, below = rows > 1 ? columns : 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = top[y] * columns + left[x];
      const upper = values[at] + across[x] * (values[at + right] - values[at]);
      const lower = values[at + below] + across[x] * (values[at + below + right] - values[at + below]);
      const v = Math.round(upper + down[y] * (lower - upper)), to = 4 * (y * width + x);
      for (let k = 0; k < 4; k++) picture.data[to + k] = HEAT[4 * v + k];
    }
  }
  context.putImageData(picture, 0, 0);
}

// Void is hatched in light and dark, visible on any background, and lies below the outlines of the objects. It is the
// area inside an odd number of all outlines. The stripes are a fraction of the picture: the drawing is stretched with it.
let hatches = 0;
function voidOf(content) {
  const step = Math.max(...content.g) / 64, id = `void-${++hatches}`, path = [content.v, ...Object.values(content.o)].join("");
  const stripe = (at, ink) => svg("rect", { x: at, y: 0, width: 0.36 * step, height: step, fill: ink });
  const pattern = svg("pattern", { id, width: step, height: step, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, stripe(0, "#ffffff"), stripe(0.36 * step, "#202020"));
  return [svg("defs", {}, pattern), svg("path", { d: path, class: "void", "fill-rule": "evenodd", style: `fill: url(#${id})` })];
}

function outline(content, label, weight) {
  const drawing = svg("svg", { viewBox: `0 0 ${content.g[0]} ${content.g[1]}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  if (content.v) drawing.append(...voidOf(content));
  const paths = Object.entries(content.o || {}).sort(([a], [b]) => (Number(a) === label) - (Number(b) === label));
  for (const [name, d] of paths) {
    const thick = weight * (Number(name) === label ? 2.2 : 1);
    drawing.append(svg("path", { d, class: "edge", "stroke-width": thick + 1.6 * weight }), svg("path", { d, class: "line", "stroke-width": thick }));
  }
  return drawing;
}

// A picture with its overlays: `map` and `lines` switch them on, `side` is the resolution of the map.
function view(image, label, model, { map = true, lines = true, side = 160, natural = false } = {}) {
  const ratio = D.width[image] / D.height[image], box = el("div", { class: "view" }), inner = el("div", { class: "inner" });
  if (natural) box.style.aspectRatio = String(Math.max(0.6, Math.min(ratio, 2.4)));
  const frame = natural ? Math.max(0.6, Math.min(ratio, 2.4)) : 4 / 3;
  inner.style.aspectRatio = String(ratio);
  inner.style[ratio > frame ? "width" : "height"] = "100%";
  box.append(inner);
  const name = label >= 0 ? D.classes[label] : "";
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", `Image ${D.ids[image]}${map && label >= 0 ? ` with the map of ${name}` : ""}`);
  box.ready = caseOf(image).then((content) => {
    if (!content) {
      box.append(el("div", { class: "absent" }, D.kept && D.kept[image] ? "cannot be read" : "numbers only"));
      return null;
    }
    const plane = content.m[model][label];
    if (content.p) {
      const picture = el("img", { src: content.p, alt: "", decoding: "async" });
      if (map && plane) picture.style.filter = `grayscale(${state.opacity})`;
      inner.append(picture);
    }
    if (map && plane) {
      const canvas = el("canvas", { "aria-hidden": "true" }), scale = side / Math.max(1, ratio);
      drawMap(canvas, plane, Math.max(1, Math.round(scale * ratio)), Math.max(1, Math.round(scale)));
      canvas.style.opacity = String(state.opacity);
      inner.append(canvas);
    } else if (map && !content.p) {
      box.append(el("div", { class: "absent" }, "no map"));
    }
    if (lines && content.g) inner.append(outline(content, label, side < 100 ? 0.6 : 1));
    return content;
  });
  return box;
}
