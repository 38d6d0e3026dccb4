// Sort tables of class "sortable" by a click on a column's head. Numbers come from data-v; unknown values stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const key = (row) => {
        const cell = row.cells[column];
        return cell.dataset.v === undefined ? cell.textContent.trim().toLowerCase() : Number.parseFloat(cell.dataset.v);
      };
      const order = (one, other) => {
        const [a, b] = [key(one), key(other)];
        if (typeof a === "number") {
          if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
          return falling ? b - a : a - b;
        }
        return falling ? b.localeCompare(a) : a.localeCompare(b);
      };
      table.tBodies[0].append(...Array.from(table.tBodies[0].rows).sort(order));
    });
  });
}

// Unfold the section that an anchor points to.
const unfold = () => {
  const target = document.getElementById(location.hash.slice(1));
  if (!target) return;
  for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
  for (const child of target.children) if (child.tagName === "DETAILS") child.open = true;
  target.scrollIntoView();
};
addEventListener("hashchange", unfold);
unfold();
for (const link of document.querySelectorAll("nav a")) link.addEventListener("click", () => setTimeout(unfold));

// Print everything, folded or not.
let folded = [];
addEventListener("beforeprint", () => {
  folded = Array.from(document.querySelectorAll("details:not([open])"));
  for (const details of folded) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of folded) details.open = false;
});
