// The effect of each axis: the difference of every pair of levels with its interval, one panel per measure.
const FEW = 15;  // with more pairs, only those of one level are drawn at a time
const LINE = 34;  // height of a pair in pixels: its name, and its interval below
const effects = { axis: "", measure: "", pairs: "" };

const ofLevel = (row, level) => row.first === level || row.second === level;
function signed(value, digits = 3) {
  const text = decimals(Math.abs(value), digits);
  return Number(text) === 0 ? text : `${value > 0 ? "+" : "−"}${text}`;
}
const pair = (row) => `${row.first} − ${row.second}`;
const named = (row, combined) => (combined ? `${row.others}: ${pair(row)}` : pair(row));

function differenceText(row, combined) {
  if (row.difference === null) return [named(row, combined), `no claim${row.reason ? `: ${row.reason}` : ""}`];
  const seeds = `${row.seeds_first} and ${row.seeds_second} seeds`;
  const interval = row.low === null ? "no interval" : `95 % interval ${intervalText(row.low, row.high, 3, signed)}`;
  const p = row.p_holm === null ? `no claim${row.reason ? `: ${row.reason}` : ""}` : `p ${pText(row.p_holm)} after Holm: ${row.sure ? "established" : "not established"}`;
  return [named(row, combined), `${signed(row.difference, row.low === null ? 3 : decimalsBetween(row.low, row.high))} (${interval})`, p, seeds];
}

// Shortens a text to the room it has; the tooltip shows all of it.
function fitted(node, room) {
  const letters = [...node.textContent];
  while (letters.length > 3 && node.getComputedTextLength() > room) {
    letters.pop();
    node.textContent = `${letters.join("").trimEnd()}…`;
  }
}

function drawWhiskers(box, measure, rows, combined) {
  const ends = rows.flatMap((row) => [row.difference, row.low, row.high]).filter((value) => value !== null);
  if (!ends.length) { box.append(el("p", { class: "note" }, [...new Set(rows.map((row) => row.reason).filter(Boolean))].join(" ") || "No difference could be computed.")); return; }
  const low = Math.min(0, ...ends), high = Math.max(0, ...ends), room = Math.max((high - low) * 0.05, 1e-4);
  const holder = el("div", { class: "plot" });
  box.append(holder);
  const height = rows.length * LINE + 46, reach = high - low + 2 * room;
  // For one pair in many combinations the axis names the pair, and each line its combination.
  const onePair = combined && new Set(rows.map(pair)).size === 1, name = (row) => (onePair ? row.away : named(row, combined));
  const width = Math.max(holder.clientWidth, 240), side = (tick) => 10 + (tick - low + room) / reach * (width - 22), half = (tick) => short(tick).length * 3.5;
  const ticks = ticksOf(low - room, high + room, 4).filter((tick) => side(tick) >= half(tick) && side(tick) + half(tick) <= width);
  const chart = frame(holder, { height, left: 10, top: 4, x: { low: low - room, high: high + room, ticks, label: onePair ? pair(rows[0]) : "difference, first − second" }, y: { low: 0, high: 1, ticks: [] },
    summary: `${measure.name}: ${plural(rows.length, "difference")} of levels with 95 % intervals, ${rows.filter((row) => row.sure).length} established. The numbers are in the table below; the up and down keys move along the pairs.` });
  const zero = chart.px(0);
  // Beside the intervals only: it would strike through the names above them.
  chart.drawing.append(svg("line", { x1: zero, x2: zero, y1: chart.top, y2: chart.foot, stroke: "var(--strong)", "stroke-width": 1.2, "stroke-dasharray": LINE / 2, "stroke-dashoffset": LINE / 2 }));
  const groups = rows.map((row, at) => whisker(chart, row, name(row), chart.top + at * LINE));
  chart.drawing.setAttribute("class", "whiskers");
  chart.drawing.setAttribute("tabindex", "0");
  listenWhiskers(chart, rows, combined, groups);
}

function whisker(chart, row, words, top) {
  const group = svg("g", { class: "row" }), y = top + 24, halo = "paint-order:stroke;stroke:var(--ground);stroke-width:4px";
  group.append(svg("rect", { x: 0, y: top, width: chart.width, height: LINE }));
  chart.drawing.append(group);
  const value = chart.text(row.difference === null ? "no claim" : signed(row.difference), { x: chart.end, y: top + 13, "text-anchor": "end", class: row.difference === null ? "no" : "soft", style: halo });
  const name = chart.text(words, { x: chart.left, y: top + 13, style: halo });
  if (row.difference !== null) {
    const x = chart.px(row.difference), ink = row.sure ? "var(--blue)" : "var(--grey)";
    if (row.low !== null && row.high !== null) group.append(svg("line", { x1: chart.px(row.low), x2: chart.px(row.high), y1: y, y2: y, stroke: ink, "stroke-width": row.sure ? 3 : 1.5 }));
    group.append(row.sure ? svg("path", { class: "sure", d: `M${x} ${y - 6.5}l6.5 6.5l-6.5 6.5l-6.5 -6.5Z`, fill: ink, stroke: "var(--ground)" })
      : svg("circle", { class: "unsure", cx: x, cy: y, r: 4, fill: "var(--ground)", stroke: ink, "stroke-width": 1.6, "stroke-dasharray": row.p_holm === null ? "2 2" : "none" }));
  }
  group.append(value, name);
  fitted(name, chart.end - chart.left - value.getComputedTextLength() - 12);
  return group;
}

function listenWhiskers(chart, rows, combined, groups) {
  const drawing = chart.drawing;
  let at = -1;
  const select = (next) => { groups[at]?.classList.remove("at"); at = next; groups[at]?.classList.add("at"); };
  const tipAt = (x, y) => { const words = differenceText(rows[at], combined); showTip(x, y, ...words.map((line, i) => el("p", {}, i ? line : el("strong", {}, line)))); return words; };
  const leave = () => { select(-1); hideTip(); };
  const hover = (event) => {
    const box = drawing.getBoundingClientRect(), place = Math.floor(((event.clientY - box.top) * chart.width / box.width - chart.top) / LINE);
    if (place < 0 || place >= rows.length) { leave(); return; }
    select(place);
    tipAt(event.clientX, event.clientY);
  };
  drawing.addEventListener("pointermove", hover);
  drawing.addEventListener("pointerleave", leave);
  drawing.addEventListener("blur", leave);
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    select(Math.min(Math.max(at + step, 0), rows.length - 1));
    const box = drawing.getBoundingClientRect();
    announce(tipAt(box.left + chart.px(rows[at].difference ?? 0), box.top + chart.top + at * LINE + 20).join(", "));
  });
}

const allLevels = () => [...new Set(S.effects.flatMap((group) => group.levels))];
const pairsOf = (group) => Math.max(...group.measures.map((measure) => measure.rows.length));

// The level whose pairs are drawn: the chosen one, the first one of many, or null for all pairs.
function drawnOf(group) {
  if (effects.pairs === "all") return null;
  if (effects.pairs === "") return pairsOf(group) > FEW ? group.levels[0] : null;
  const level = allLevels()[Number(effects.pairs)];
  return group.levels.includes(level) ? level : null;
}

function drawEffects() {
  S.effects.forEach((group, place) => {
    const figure = byId(`effect-${place}`), box = figure.querySelector(".panels"), level = drawnOf(group);
    figure.hidden = effects.axis !== "" && Number(effects.axis) !== place;
    if (figure.hidden) return;
    box.replaceChildren();
    figure.querySelector(".drawn").textContent = level === null ? "" : `The figure shows the pairs with ${level}; the table shows all pairs.`;
    if (group.measures.every((measure) => measure.rows.every((row) => row.difference === null))) return;  // the caption gives the reason
    const drawn = group.measures.filter((measure) => !effects.measure || measure.name === effects.measure);
    const parts = drawn.map((measure) => {
      const term = el("span", { class: "term", tabindex: "0", "aria-describedby": `def-${measure.term}` }, measure.name);
      term.dataset.term = measure.term;
      const part = el("div", {}, el("h3", {}, term, " ", el("small", {}, measure.better)));
      box.append(part);
      return part;
    });
    // Once all stand there, since their number decides their width.
    drawn.forEach((measure, at) => drawWhiskers(parts[at], measure, level === null ? measure.rows : measure.rows.filter((row) => ofLevel(row, level)), group.named));
  });
}

function setUpEffects() {
  if (!S.effects.length) return;
  const measures = [...new Set(S.effects.flatMap((group) => group.measures.map((measure) => measure.name)))];
  const many = S.effects.some((group) => pairsOf(group) > FEW);
  byId("e-measure").append(el("option", { value: "" }, "all"), ...measures.map((name) => el("option", { value: name }, name)));
  byId("e-pairs").append(...(many ? [el("option", { value: "" }, "with the first level"), el("option", { value: "all" }, "all")] : [el("option", { value: "all" }, "all")]), ...allLevels().map((level, at) => el("option", { value: String(at) }, `with ${level}`)));
  byId("effect-tools").hidden = false;
  for (const [id, name] of [["e-axis", "axis"], ["e-measure", "measure"], ["e-pairs", "pairs"]]) {
    byId(id)?.addEventListener("change", (event) => { effects[name] = event.target.value; drawEffects(); });
  }
}
