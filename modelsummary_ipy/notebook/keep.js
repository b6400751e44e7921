// What a reader opened, closed, searched for, scrolled to and selected stays when another page takes the place of one. The
// element that holds the pages keeps it; each page's own script reports there that it is set up (`msShown`). The old page
// is out of the document then and still has its state.
((holder) => {
  "use strict";
  if (!holder || holder.msShown) return; // another page may have come before this handler ran
  const keep = { opened: new Map(), shown: new Map(), top: 0, search: null, focus: null, root: null, on: null };
  // What is pressed and ranked in a page, by its words.
  const wordsOf = (button) => button.textContent.trim();
  const pressed = (root) => [...root.querySelectorAll(".ms-bar [aria-pressed]")];
  const heads = (root) => [...root.querySelectorAll(".ms-cols th")];
  holder.msShown = (root) => {
    if (!root.isConnected) return;
    // What differs from how it was shown, the reader has opened or closed. What a search opens is the search's.
    for (const [key, { row, open }] of keep.shown) {
      const now = keep.openOf ? keep.openOf(row) : row.open;
      if (now !== open) keep.opened.set(key, now);
    }

    // A row is known by the names of the rows around it; the same name again is distinguished by its number.
    const nameOf = (row) => {
      const head = row.querySelector(":scope > summary th");
      return head && head.firstChild ? head.firstChild.textContent.trim() : row.className.split(" ")[0];
    };
    const keys = new Map();
    keep.shown = new Map();
    keep.openOf = root.msOpenOf;
    for (const row of root.querySelectorAll("details")) {
      const above = row.parentElement.closest("details");
      const name = `${above ? keys.get(above) : ""}/${nameOf(row)}`;
      let key = name;
      for (let number = 2; keep.shown.has(key); number += 1) key = `${name}#${number}`;
      keys.set(row, key);
      const failed = row.matches(".ms-failed") || row.querySelector(".ms-failed");
      if (keep.opened.has(key) && !(failed && row.open)) row.open = keep.opened.get(key);
      keep.shown.set(key, { row, open: row.open });
    }

    const words = keep.search ? keep.search.value : "";
    const body = root.querySelector(".ms-body");
    body.style.overflowAnchor = "none"; // what rows grow by as the page's script goes on is no scrolling
    let top = body.scrollTop;
    if (root.msTop) top = root.msTop; // where the forward failed: the page itself has scrolled there
    else if (top) keep.top = top; // who was quick has scrolled already
    else {
      body.scrollTop = keep.top;
      top = body.scrollTop; // of a shorter page that is less: its end, which nobody chose
    }
    // The event comes a frame late: its page may be replaced by then, and is scrolled to 0 out of the document.
    body.addEventListener("scroll", () => {
      if (body.isConnected && body.scrollTop !== top) keep.top = top = body.scrollTop;
    });
    keep.search = root.querySelector(".ms-bar input");
    if (words && keep.search) {
      keep.search.value = words;
      keep.search.dispatchEvent(new Event("input"));
    }

    // Some buttons, and those of the heads, come when the page is whole; a page that is replaced before has none to read.
    if (keep.root && keep.isWhole) {
      keep.on = pressed(keep.root).filter((button) => button.ariaPressed === "true").map(wordsOf);
      keep.ranked = heads(keep.root).find((head) => head.ariaSort)?.textContent;
    }
    keep.root = root;
    keep.isWhole = false;
    const press = () => {
      if (keep.on) for (const button of pressed(root)) if (keep.on.includes(wordsOf(button)) !== (button.ariaPressed === "true")) button.click();
    };
    press();
    setTimeout(() => {
      if (keep.root !== root) return;
      press();
      if (keep.ranked) heads(root).find((head) => head.textContent === keep.ranked)?.querySelector("button")?.click();
      keep.isWhole = true;
    });

    // The row with the focus in the old page gets it in the new one; a notebook takes the focus when its element is gone.
    const standsOn = (place) => (place === keep.search ? "search" : keys.get(place.closest("details")));
    const stand = keep.focus === "search" ? keep.search : keep.shown.get(keep.focus)?.row.querySelector("summary");
    if (stand && document.activeElement.contains(holder)) stand.focus({ preventScroll: true });
    if (root.contains(document.activeElement)) keep.focus = standsOn(document.activeElement);
    root.addEventListener("focusin", (event) => (keep.focus = standsOn(event.target)));
    root.addEventListener("focusout", () => {
      setTimeout(() => {
        if (root.isConnected && !root.contains(document.activeElement)) keep.focus = null;
      });
    });
  };
  const first = holder.querySelector(".ms-root");
  if (first && first.msOpenOf) holder.msShown(first); // its script has run before
})
