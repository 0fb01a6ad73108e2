"use strict";
(() => {
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    const original = [...body.rows];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const first = head.classList.contains("number") ? "descending" : "ascending";
        const second = first === "ascending" ? "descending" : "ascending";
        const order = before === null ? first : before === first ? second : null;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (order === null) {
          body.append(...original);
          return;
        }
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
        const numeric = head.classList.contains("number");
        body.append(
          ...[...original].sort((a, b) =>
            numeric ? sign * (Number(key(a)) - Number(key(b))) : sign * key(a).localeCompare(key(b))
          )
        );
      });
    });
  }
  const find = document.getElementById("find");
  const condition = document.getElementById("condition");
  const families = [...document.querySelectorAll("input.family")];
  const count = document.getElementById("count");
  const filter = () => {
    const text = find.value.trim().toLowerCase();
    const wanted = new Set(families.filter((box) => box.checked).map((box) => box.value));
    let shown = 0;
    for (const row of document.querySelectorAll("#board-table tbody tr, #task-table tbody tr")) {
      const here = !condition || !row.dataset.condition || row.dataset.condition === condition.value;
      row.hidden = !(here && wanted.has(row.dataset.family) && row.cells[0].textContent.toLowerCase().includes(text));
      if (!row.hidden && row.closest("#board-table")) shown += 1;
    }
    count.textContent = `${shown} lines`;
  };
  for (const control of [find, condition, ...families]) control?.addEventListener("input", filter);
  find.form.addEventListener("submit", (event) => event.preventDefault());
  filter();
})();
