// Runs each time the form shows another page, in the element that held the page before: what its reader opened, closed,
// searched for and scrolled to stays.
((holder) => {
  "use strict";
  const root = holder.querySelector(".ms-root");
  if (!root) return;
  const keep = (holder.msKeep ||= { opened: new Map(), top: 0, search: null });

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
  for (const [key, { row }] of known) {
    const failed = row.matches(".ms-failed") || row.querySelector(".ms-failed");
    if (keep.opened.has(key) && !(failed && row.open)) row.open = keep.opened.get(key);
  }
  // What a search opens is the search's; what was opened or closed without one is the reader's. `toggle` does not bubble.
  const listen = (event) => {
    const key = keys.get(event.target);
    if (key === undefined || (keep.search && keep.search.value)) return;
    if (keep.opened.has(key) || event.target.open !== known.get(key).open) keep.opened.set(key, event.target.open);
  };
  root.addEventListener("toggle", listen, true);

  const body = root.querySelector(".ms-body");
  body.scrollTop = keep.top;
  body.addEventListener("scroll", () => (keep.top = body.scrollTop));
  keep.search = root.querySelector(".ms-bar input");
  if (words && keep.search) {
    keep.search.value = words;
    keep.search.dispatchEvent(new Event("input"));
  }
})(this.parentElement);
