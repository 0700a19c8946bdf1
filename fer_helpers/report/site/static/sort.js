// Click the head of a column to sort the table by it, again to turn the order round. Without JavaScript: a plain table.
document.querySelectorAll("table.sortable").forEach((table) => {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const turn = head.ariaSort === "ascending" ? -1 : 1;
      heads.forEach((other) => { other.ariaSort = null; });
      head.ariaSort = turn === 1 ? "ascending" : "descending";
      const text = (row) => row.cells[column].textContent.trim();
      const compare = (a, b) => (isNaN(a - b) ? a.localeCompare(b) : a - b);
      // What is empty stays last in either order.
      const rows = [...table.tBodies[0].rows].sort((a, b) => !text(a) - !text(b) || turn * compare(text(a), text(b)));
      table.tBodies[0].append(...rows);
    });
  });
});
