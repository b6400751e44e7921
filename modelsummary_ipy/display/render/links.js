(() => {
  "use strict";
  // Opens all around some rows and marks them; to `go` there is to take the focus along.
  function show(root, rows, go) {
    const heads = rows.filter(Boolean).map((row) => row.querySelector(":scope > summary"));
    if (!heads.length) return;
    root.msTree();
    for (const row of rows.slice().reverse()) root.msReveal(row); // the first one last: it is scrolled to
    if (go) heads[0].focus();
    for (const other of root.querySelectorAll("[data-to]")) other.removeAttribute("data-to");
    for (const head of heads) head.dataset.to = "";
  }

  // What names a row in the head leads to it; a block of a chart fills the chart's width, too.
  function link(root) {
    for (const place of root.querySelectorAll(".ms-head span[data-row]")) {
      const made = Object.assign(document.createElement("button"), { type: "button", className: "ms-to", textContent: place.textContent });
      made.onclick = () => show(root, [root.msRow(place.dataset.row)], true);
      place.replaceWith(made);
    }
    const press = (block) => {
      show(root, [root.msRow(block.dataset.row)]);
      if (block.matches("svg")) zoom(block.parentElement, block);
    };
    root.querySelectorAll(".ms-ice, .ms-step > svg").forEach((chart) => steer(chart, press));
    root.querySelectorAll(".ms-ice").forEach((chart) => new ResizeObserver(() => label(chart)).observe(chart));
  }

  // A chart is one stop of the Tab key; arrows go from block to block, and Enter or a click presses one.
  function steer(chart, press) {
    const blocks = [...chart.querySelectorAll("[data-row]")];
    const box = (block) => block.getBoundingClientRect();
    const holds = (one, other) => one.left < other.left + 1 && one.right > other.right - 1;
    const stop = (block) => blocks.forEach((one) => (one.tabIndex = one === block ? 0 : -1));
    chart.closest("[role]").setAttribute("role", "group");
    for (const block of blocks) {
      block.setAttribute("role", "button");
      block.setAttribute("aria-label", block.querySelector("title").textContent);
      block.onclick = () => (stop(block), press(block));
    }
    stop(blocks[0]); // a listener for the focus would make the chart itself a stop
    chart.addEventListener("keydown", (event) => {
      const block = event.target;
      const at = box(block);
      const seen = blocks.filter((one) => one.style.display !== "none");
      const level = seen.filter((one) => box(one).top === at.top);
      const near = (down) =>
        seen.find((one) => {
          const by = (box(one).top - at.top) * down;
          return by > 0 && by < 30 && (holds(at, box(one)) || holds(box(one), at));
        });
      const keys = {
        ArrowLeft: () => level[level.indexOf(block) - 1],
        ArrowRight: () => level[level.indexOf(block) + 1],
        ArrowUp: () => near(-1),
        ArrowDown: () => near(1),
        Enter: () => (press(block), block),
        " ": () => (press(block), block),
      };
      if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      const next = keys[event.key]();
      if (!next) return;
      stop(next);
      next.focus();
    });
  }

  // The block that is clicked takes the whole width; clicked again, or one around it, and more is seen.
  function zoom(chart, block) {
    const place = (one) => {
      one.msAt = one.msAt || ["x", "width"].map((name) => parseFloat(one.getAttribute(name)));
      return one.msAt;
    };
    const blocks = [...chart.children];
    chart.msBlock = chart.msBlock === block ? blocks[0] : block;
    const [left, whole] = place(chart.msBlock);
    for (const one of blocks) {
      const [x, width] = place(one);
      const from = Math.max(0, (100 * (x - left)) / whole);
      const to = Math.min(100, (100 * (x + width - left)) / whole);
      one.style.display = to - from > 0.05 ? "" : "none";
      one.setAttribute("x", `${from}%`);
      one.setAttribute("width", `${Math.max(0, to - from)}%`);
    }
    label(chart);
  }

  // A block has as much of its name as it has room for.
  function label(chart) {
    for (const one of chart.children) {
      const path = one.querySelector("title").textContent.replace(/: [^:]*$/, "");
      const pixels = (parseFloat(one.getAttribute("width")) * chart.clientWidth) / 100;
      const text = one.querySelector("text") || one.appendChild(document.createElementNS(one.namespaceURI, "text"));
      text.msOwn ??= text.textContent;
      text.textContent = [path, path.match(/[^.]*(\.\d+)*$/)[0], text.msOwn].find((name) => name.length * 7 + 6 < pixels) || "";
      Object.entries({ x: 4, y: 14 }).forEach(([name, value]) => text.setAttribute(name, value));
    }
  }

  // The source of all rows in one place; a line that made rows leads to them.
  function source(root) {
    const listings = [...root.querySelectorAll(".ms-body .ms-x[data-at]")];
    if (!listings.length) return;
    const rowsAt = new Map();
    for (const row of root.querySelectorAll(".ms-body .ms-r")) {
      const terms = [...row.querySelectorAll(":scope > .ms-d dt, :scope > .ms-a dt")];
      const term = terms.find((one) => one.textContent === "source");
      const line = term && term.nextSibling.textContent;
      if (line) rowsAt.set(line, [...(rowsAt.get(line) || []), row]);
    }
    const panel = Object.assign(document.createElement("div"), { className: "ms-code", tabIndex: 0, hidden: true });
    panel.setAttribute("role", "region");
    panel.setAttribute("aria-label", "Annotated source");
    for (const listing of listings) {
      const [, file, first] = listing.dataset.at.match(/^(.*?)(\d+)$/);
      let number = Number(first);
      const made = document.createElement("pre");
      made.append(Object.assign(document.createElement("b"), { textContent: `# ${listing.dataset.at}\n` }));
      for (const text of listing.textContent.split("\n")) {
        const rows = text.trimStart().startsWith("#^") ? [] : rowsAt.get(file + number++) || [];
        const line = document.createElement(rows.length ? "button" : "span");
        line.textContent = text;
        if (rows.length) line.onclick = () => show(root, rows, true);
        made.append(line, "\n");
      }
      panel.append(made);
    }
    const bar = root.querySelector(".ms-bar");
    bar.after(panel);
    const button = Object.assign(document.createElement("button"), {
      type: "button",
      textContent: "source",
      title: "The source, and what each line made",
      onclick: () => button.setAttribute("aria-pressed", String((panel.hidden = !panel.hidden) === false)),
    });
    button.setAttribute("aria-pressed", "false");
    bar.insertBefore(button, bar.querySelector("output"));
  }

  for (const root of document.querySelectorAll(".ms-flow:not(.ms-links)")) {
    root.classList.add("ms-links");
    link(root);
    source(root);
  }
})();
