// The tables of recipes and runs: filtered by level and text.
const S = D.study;

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
