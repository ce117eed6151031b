// Tables that are sorted by the heading of a column.
const sorted = new Map();  // table -> [column, descending]

function keyOf(row, column) {
  const text = row.cells[column].dataset.key;
  if (text === undefined) return null;
  return row.cells[column].classList.contains("num") ? Number(text) : text;
}

function sortBy(holder, column) {
  const [last, down] = sorted.get(holder) ?? [-1, false];
  const heads = [...holder.tHead.rows[0].cells], number = heads[column].classList.contains("num") && heads[column].dataset.first !== "rising";
  const turned = last === column ? !down : number;  // first click: numbers descending, names and ranks ascending
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
