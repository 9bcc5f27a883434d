"use strict";
(() => {
  const missing = new Set(["", "\u2013"]);
  const value = (row, column) => row.cells[column].querySelector(".value").textContent;

  // Numbers by their size, texts by the alphabet; what is missing comes last both ways.
  const compare = (column, direction) => (a, b) => {
    const [x, y] = [a, b].map((row) => row.cells[column].dataset.number);
    const [s, t] = [a, b].map((row) => value(row, column));
    const [p, q] = [s, t].map((text) => missing.has(text));
    if (p || q) return p - q;
    if (x !== undefined && y !== undefined) return direction * (Number(x) - Number(y));
    if (x !== undefined || y !== undefined) return x !== undefined ? -1 : 1;
    return direction * s.localeCompare(t, "en", { numeric: true });
  };

  const sort = (header) => {
    const row = header.parentElement;
    const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of row.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    const body = header.closest("table").tBodies[0];
    body.append(...[...body.rows].sort(compare(header.cellIndex, direction)));
  };

  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const csv = (table) => {
    const header = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
    const rows = [...table.tBodies[0].rows].map((row) => [...row.cells].map((_, column) => value(row, column)));
    return [header, ...rows].map((line) => line.map(quoted).join(",")).join("\n") + "\n";
  };
  const save = (button) => {
    const table = button.closest("figure").querySelector("table");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv(table)], { type: "text/csv" }));
    link.download = button.dataset.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => sort(button.parentElement));
  }
  for (const button of document.querySelectorAll("button.csv")) {
    button.hidden = false;
    button.addEventListener("click", () => save(button));
  }
  // A link to something that is folded opens it.
  const open = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    if (target) target.scrollIntoView();
  };
  addEventListener("hashchange", open);
  open();
})();
