for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], original = [...body.rows];
  const text = (row, column) => {
    const cell = row.cells[Math.min(column, row.cells.length - 1)];
    return (cell.firstChild ? cell.firstChild.textContent : "").trim();
  };
  const value = words =>
    parseFloat(words.replace("−", "-").replace(/^[<>≤] */, "").replace(/(\d)\u00a0(?=\d)/g, "$1"));
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.tabIndex = 0;
    head.title = "sort";
    const sort = () => {
      const next = {none: "ascending", ascending: "descending", descending: "none"}[head.ariaSort || "none"];
      for (const other of table.tHead.rows[0].cells) other.ariaSort = "none";
      head.ariaSort = next;
      const sign = next === "descending" ? -1 : 1;
      const order = (one, two) => {
        const [a, b] = [value(text(one, column)), value(text(two, column))];
        if (isNaN(a) || isNaN(b))
          return isNaN(a) && isNaN(b) ? sign * text(one, column).localeCompare(text(two, column)) : isNaN(a) - isNaN(b);
        return sign * (a - b);
      };
      body.append(...(next === "none" ? original : [...original].sort(order)));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
  });
  const filter = document.createElement("input");
  filter.type = "search";
  filter.placeholder = "show rows that contain …";
  filter.setAttribute("aria-label", "show rows that contain");
  filter.addEventListener("input", () => {
    for (const row of original) row.hidden = !row.textContent.toLowerCase().includes(filter.value.toLowerCase());
  });
  table.parentNode.before(filter);
}
