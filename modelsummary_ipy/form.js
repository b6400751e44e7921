// Runs each time the form shows another page, in the element that held the page before: what its reader opened, closed,
// searched for and scrolled to stays.
((holder) => {
  "use strict";
  const root = holder.querySelector(".ms-root");
  if (!root) return;
  const keep = (holder.msKeep ||= { opened: new Map(), rows: new Map(), top: 0, search: null });

  // A row is known by the names of the rows around it; the same name again is told by its number.
  const nameOf = (row) => {
    const head = row.querySelector(":scope > summary th");
    return head && head.firstChild ? head.firstChild.textContent.trim() : row.className.split(" ")[0];
  };
  const keys = new Map();
  const known = new Map();
  for (const row of root.querySelectorAll("details")) {
    const above = row.parentElement.closest("details");
    const name = `${above ? keys.get(above) : ""}/${nameOf(row)}`;
    let key = name;
    for (let number = 2; known.has(key); number += 1) key = `${name}#${number}`;
    keys.set(row, key);
    known.set(key, { row, open: row.open });
  }

  const words = keep.search ? keep.search.value : "";
  if (!words) for (const [key, { row, open }] of keep.rows) if (row.open !== open) keep.opened.set(key, row.open);
  for (const [key, { row }] of known) {
    const failed = row.matches(".ms-failed") || row.querySelector(".ms-failed");
    if (keep.opened.has(key) && !(failed && row.open)) row.open = keep.opened.get(key);
  }
  keep.rows = known;

  const body = root.querySelector(".ms-body");
  body.scrollTop = keep.top;
  body.addEventListener("scroll", () => (keep.top = body.scrollTop));
  keep.search = root.querySelector(".ms-bar input");
  if (words && keep.search) {
    keep.search.value = words;
    keep.search.dispatchEvent(new Event("input"));
  }
})(this.parentElement);
