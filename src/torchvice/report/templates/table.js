// The tables of recipes and runs: sorted by a column's heading, filtered by level and text.
const S = D.study;
const sorted = new Map();  // table -> [column, descending]

function keyOf(row, column) {
  const text = row.cells[column].dataset.key;
  if (text === undefined) return null;
  return row.cells[column].classList.contains("num") ? Number(text) : text;
}

// A cell without a value comes last in both directions.
function compareKeys(a, b, down) {
  if (a === null || b === null) return (a === null) - (b === null);
  const order = typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
  return down ? -order : order;
}

function sortBy(holder, column) {
  const [last, down] = sorted.get(holder) ?? [-1, false];
  const heads = [...holder.tHead.rows[0].cells], number = heads[column].classList.contains("num");
  const turned = last === column ? !down : number;  // first click: numbers descending, names ascending
  sorted.set(holder, [column, turned]);
  const rows = [...holder.tBodies[0].rows];
  rows.sort((a, b) => compareKeys(keyOf(a, column), keyOf(b, column), turned));
  holder.tBodies[0].append(...rows);
  heads.forEach((head, at) => {
    head.setAttribute("aria-sort", at !== column ? "none" : turned ? "descending" : "ascending");
    head.querySelector("button span").textContent = at !== column ? " ↕" : turned ? " ▼" : " ▲";
  });
}

function setUpHeads(holder) {
  [...holder.tHead.rows[0].cells].forEach((head, at) => {
    const term = head.querySelector(".term"), name = head.textContent;
    const button = el("button", { type: "button", onclick: () => sortBy(holder, at) }, name, el("span", { "aria-hidden": "true" }, " ↕"));
    if (term) {
      button.className = "term";
      button.dataset.term = term.dataset.term;
      button.setAttribute("aria-describedby", `def-${term.dataset.term}`);
    }
    head.setAttribute("aria-sort", "none");
    head.replaceChildren(button);
  });
}

const tables = [...document.querySelectorAll(".sortable")];

function refilter() {
  const words = byId("t-text").value.trim().toLowerCase();
  const wanted = [...document.querySelectorAll(".t-axis")].filter((one) => one.value).map((one) => [one.dataset.axis, one.selectedOptions[0].textContent]);
  const counts = tables.map((holder) => {
    let shown = 0;
    for (const row of holder.tBodies[0].rows) {
      const recipe = S.recipes[Number(row.dataset.recipe)];
      const kept = wanted.every(([axis, level]) => recipe.levels[axis] === level) && (!words || `${recipe.name} ${row.textContent}`.toLowerCase().includes(words));
      row.hidden = !kept;
      shown += kept;
    }
    return [shown, holder.tBodies[0].rows.length];
  });
  const [recipes, runs] = counts;
  byId("found").textContent = recipes[0] + runs[0] ? `${recipes[0]} of ${plural(recipes[1], "recipe")} and ${runs[0]} of ${plural(runs[1], "run")} are shown.` : "No recipe and no run meets these filters.";
}

// Scrolls to the row of a run or recipe.
function showRow(kind, place) {
  const rows = byId(`table-${kind}`).tBodies[0].rows;
  const name = kind === "runs" ? S.runs[place].name : null;
  const row = [...rows].find((one) => (kind === "runs" ? one.cells[0].dataset.key === name : Number(one.dataset.recipe) === place));
  if (row.hidden) clearFilters();
  row.tabIndex = -1;
  row.scrollIntoView({ block: "center" });
  row.focus({ preventScroll: true });
}

function clearFilters() {
  byId("t-text").value = "";
  for (const one of document.querySelectorAll(".t-axis")) one.value = "";
  refilter();
}

function setUpTables() {
  tables.forEach(setUpHeads);
  const form = byId("filters");
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", refilter);
  byId("t-clear").addEventListener("click", clearFilters);
  refilter();
}
