// The address holds the open case and the filters, so that a link shows the same view.
// An address without a fragment shows the first case without filters.
const PARTS = [
  ["quadrant", "f-quadrant", () => [...D.quadrants.map(([key]) => key), "none"]],
  ["class", "f-class", () => D.classes],
  ["size", "f-size", () => ["small", "medium", "large"]],
  ["predictions", "f-right", null],
  ["id", "f-id", null],
  ["sort", "f-sort", null],
];
// Milliseconds between changes of the address: Safari allows 100 in 30 seconds, and a held key makes more.
const WRITE_INTERVAL = 350;
const written = { at: -Infinity, waiting: 0 };

// A name that is not valid Unicode (half a surrogate pair) is left out.
function encoded(text) {
  try { return encodeURIComponent(text); } catch { return null; }
}

function fragment() {
  const parts = [], add = (name, text) => { const safe = encoded(text); if (safe !== null) parts.push(`${name}=${safe}`); return safe !== null; };
  if (state.entry >= 0 && add("case", D.ids[D.entryImage[state.entry]]) && state.label >= 0) add("label", D.classes[state.label]);
  if (state.model) add("model", D.models[state.model].name);
  for (const [name, id, names] of PARTS) {
    const value = byId(id).value;
    if (value !== "" && value !== (id === "f-sort" ? byId(id).options[0].value : "")) add(name, names ? names()[Number(value)] : value);
  }
  return parts.length ? `#${parts.join("&")}` : "";
}

// Replaces the current entry of the history, so that every case does not add one.
function writeAddress() {
  clearTimeout(written.waiting);
  const rest = WRITE_INTERVAL - (performance.now() - written.at);
  written.waiting = rest > 0 ? setTimeout(writeAddress, rest) : 0;
  if (rest > 0) return;
  written.at = performance.now();
  history.replaceState({ own: true }, "", fragment() || location.pathname + location.search);
}

// A jump within the page adds an entry to the history: "back" returns to the position before.
function newPlace() {
  if (written.waiting) { written.at = -Infinity; writeAddress(); }
  history.pushState({ own: true }, "");
  written.at = -Infinity;
}

function partsOf(text) {
  const parts = {};
  for (const part of text.slice(1).split("&")) {
    const at = part.indexOf("=");
    try { parts[part.slice(0, at)] = decodeURIComponent(part.slice(at + 1)); } catch { parts[part.slice(0, at)] = null; }
  }
  return parts;
}

// Sets the filters to those of an address and resets the others. Returns whether this page has all of them.
function applyFilters(parts) {
  const model = parts.model === undefined ? 0 : D.models.findIndex(({ name }) => name === parts.model);
  let known = model >= 0;
  if (known && model !== state.model) chooseModel(model);
  resetFilters();
  for (const [name, id, names] of PARTS) {
    const control = byId(id), first = id === "f-sort" ? control.options[0].value : "", text = parts[name];
    control.value = text === undefined ? first : names ? names().indexOf(text) : text;
    if (text !== undefined && (text === null || control.value === "")) { control.value = first; known = false; }
  }
  return known;
}

function readAddress(scroll) {
  const parts = partsOf(location.hash), notes = [], image = D.ids.indexOf(parts.case);
  if (!applyFilters(parts)) notes.push("The address has a filter that this report does not have.");
  list();
  let e = state.found[0] ?? 0, label = null;
  if (image >= 0) {
    const named = D.classes.indexOf(parts.label), own = entryOf(image, named);
    e = own >= 0 ? own : entriesAt(image)[0];
    if (named >= 0) label = named;
    if (!state.found.includes(e)) {
      resetFilters();
      list();
      notes.push("The filters of the address hide its case: they are cleared.");
    }
  } else if (parts.case !== undefined) {
    notes.push(`The address names an image that is not in this report: ${parts.case ?? "unreadable"}.`);
  }
  openEntry(e, scroll && image >= 0, false, label);
  if (scroll && image < 0) byId("cases").scrollIntoView();
  byId("found").prepend(...notes.map((note) => `${note} `));
  if (location.hash) writeAddress();
}

// An address from outside has no state of this page: then scroll to the case. On "back" the browser scrolls by itself.
function startAddress() {
  const ours = () => /^#[a-z]+=/.test(location.hash), outside = () => !history.state?.own;
  if (ours()) readAddress(outside());
  else { list(); openEntry(state.found[0], false, false); }
  if (outside()) history.replaceState({ own: true }, "");
  addEventListener("hashchange", () => { if (ours() || !outside()) readAddress(outside()); });
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.('a[href^="#"]'), target = link && byId(link.hash.slice(1));
    if (!target || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();  // keeps the open case in the address
    newPlace();
    target.scrollIntoView();
    if (!target.hasAttribute("tabindex")) target.setAttribute("tabindex", "-1");
    target.focus({ preventScroll: true });
  });
}
