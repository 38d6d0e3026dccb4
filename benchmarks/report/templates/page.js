// Tables of class "sortable": a click on a column's head sorts by it. Numbers come from data-v; what is unknown stays last.
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
