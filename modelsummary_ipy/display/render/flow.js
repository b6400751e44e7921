(() => {
  "use strict";
  const headOf = (row) => row.querySelector(":scope > summary");
  const parentOf = (row) => row.parentElement.closest(".ms-r");
  // A number alone reads as a count: what it belongs to stands before it, else its type behind it.
  function nameOf(row) {
    const th = headOf(row).querySelector("th");
    const name = th.firstChild.textContent.replace(" ·", "").trim();
    let above = parentOf(row);
    while (above?.matches(".ms-g")) above = parentOf(above);
    if (!/^\d/.test(name) || !above) return name;
    return parentOf(above) ? `${nameOf(above)}.${name}` : `${name} ${th.querySelector("i")?.textContent.split(" ")[0] ?? ""}`;
  }
  const list = (rows) => rows.map(nameOf).join(", ").replace(/, ([^,]*)$/, " and $1");

  function setUp(root) {
    const body = root.querySelector(".ms-body");
    const said = root.querySelector(".ms-bar output");
    const data = root.querySelector(".ms-data");
    if (!data) return;
    const rows = [...body.querySelectorAll(".ms-r")];
    const facts = data.content.textContent.split("\n").map((line) => line.split(";"));
    const byKey = new Map(rows.map((row, at) => [facts[at][0], row]));
    root.msTree = rank(body, rows, facts, said) || (() => {});
    root.msRow = (key) => byKey.get(key);
    const reads = new Map();
    const readBy = new Map(rows.map((row) => [row, []]));
    const drawn = new Map(); // by what is read: the rows further down that read it
    rows.forEach((row, at) => {
      const given = facts[at][1];
      reads.set(row, given ? given.split(",").map((key) => byKey.get(key)).filter(Boolean) : before(row));
      for (const source of reads.get(row)) {
        readBy.get(source).push(row);
        if (given) drawn.set(source, [...(drawn.get(source) || []), row]);
      }
    });
    const redraw = drawn.size ? rail(body, drawn) : () => {};

    function light(row, aloud) {
      for (const lit of body.querySelectorAll("[data-lit]")) lit.removeAttribute("data-lit");
      if (!reads.has(row)) return redraw(null);
      const [sources, readers] = [reads, readBy].map((found) => found.get(row).filter((other) => !other.hidden));
      for (const other of [...sources, ...readers]) headOf(other).dataset.lit = "";
      redraw(row);
      const words = [["reads", sources], ["read by", readers]].filter((pair) => pair[1].length);
      if (aloud && said) said.textContent = words.map(([word, others]) => `${word} ${list(others)}`).join("; ");
    }
    body.addEventListener("focusin", (event) => light(event.target.closest(".ms-r"), true));
    body.addEventListener("mouseover", (event) => light(event.target.closest(".ms-r")));
    body.addEventListener("mouseleave", () => light(null));
  }

  // A row that says nothing reads the row before it, the first one what the row around it was given.
  function before(row) {
    let other = row.previousElementSibling;
    while (other && (!other.classList.contains("ms-r") || other.classList.contains("ms-o"))) other = other.previousElementSibling;
    const found = other || parentOf(row);
    return found ? [found] : [];
  }

  function rail(body, drawn) {
    body.insertAdjacentHTML("beforeend", '<svg class="ms-rail" aria-hidden="true"></svg>'); // rows say the same in words
    const picture = body.lastElementChild;
    const isShown = (row) =>
      !row.hidden && !row.matches(".ms-no, .ms-r:not([open]) .ms-r"); // nothing around it is closed
    let lit = null;
    function draw() {
      if (!body.clientWidth && picture.firstChild) return; // hidden, maybe for this frame only
      const top = body.getBoundingClientRect().top - body.scrollTop + body.clientTop;
      const middle = (row) => Math.round(headOf(row).getBoundingClientRect().top - top + 13);
      const nets = [];
      for (const [source, readers] of drawn) {
        const shown = readers.filter(isShown);
        if (body.clientWidth < 500 || !isShown(source) || !shown.length) continue;
        const ends = shown.map(middle);
        nets.push({ rows: [source, ...shown], from: middle(source), ends, to: Math.max(...ends) });
      }
      nets.sort((one, two) => one.to - one.from - (two.to - two.from));
      const lanes = [];
      for (const net of nets) {
        net.lane = lanes.findIndex((taken) => taken.every((other) => net.from >= other.to || other.from >= net.to));
        if (net.lane < 0) net.lane = lanes.push([]) - 1;
        lanes[net.lane].push(net);
      }
      const width = nets.length ? 10 + 7 * Math.min(lanes.length, 8) : 0;
      const over = nets.filter((net) => net.lane >= 8);
      body.style.setProperty("--ms-rail", `${width}px`);
      const paths = nets.filter((net) => net.lane < 8).map((net) => {
        const x = width - 6 - 7 * net.lane;
        const ends = net.ends.map((y) => `M${x} ${y - 4}q0 4 4 4H${width + 1}m-4 -3l4 3l-4 3`);
        const line = `M${width} ${net.from}H${x + 4}q-4 0 -4 4V${net.to - 4}${ends.join("")}`;
        return `<path d="${line}"${net.rows.includes(lit) ? ' class="ms-lit"' : ""}/>`;
      });
      if (over.length) paths.push(`<text x="1" y="${Math.min(...over.map((net) => net.from)) + 4}">+${over.length}</text>`);
      picture.innerHTML = paths.join("");
    }

    let waiting = 0;
    const later = () => {
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(draw);
    };
    new MutationObserver(later).observe(body, { subtree: true, attributeFilter: ["open", "hidden", "class"] });
    new ResizeObserver(later).observe(body);
    draw();
    return (row) => {
      lit = row;
      draw();
    };
  }

  // The heads of the numbers rank the layers by what is below them; once more, and the tree is back. Who has a number
  // has all of its digits: those that a cell leaves out are in its title.
  function rank(body, rows, facts, said) {
    const leaves = rows.filter((row, at) => facts[at][2]);
    const heads = [...body.querySelectorAll(".ms-cols th:not([style])")];
    if (!leaves.length) return;
    const read = (cell) => parseInt((cell.title || cell.textContent).replace(/[~,]/g, "")) || 0;
    const values = new Map(leaves.map((row) => [row, [...headOf(row).querySelectorAll("td:not([style])")].map(read)]));
    let ranked = null;
    function turn(at) {
      if (ranked) ranked.remove();
      for (const head of heads) head.removeAttribute("aria-sort");
      const again = ranked && ranked.at === at;
      body.classList.toggle("ms-ranked", !again);
      ranked = null;
      if (again) return (said.textContent = "the tree again");
      const value = (row) => values.get(row)[at];
      const found = leaves.filter((row) => !row.hidden && value(row) > 0).sort((one, two) => value(two) - value(one));
      ranked = Object.assign(document.createElement("div"), { className: "ms-rank", at });
      let most = 0;
      for (const row of found.slice(0, 200)) {
        const copy = row.cloneNode(true);
        const path = copy.querySelector(".ms-p");
        copy.open = false;
        copy.className = "ms-r ms-l";
        const name = headOf(copy).querySelector("th");
        name.style.paddingLeft = "2px";
        if (path) name.firstChild.textContent = path.textContent;
        const bar = headOf(copy).querySelectorAll("td:not([style])")[at].querySelector("meter");
        if (bar) bar.max = most = most || bar.value; // bars compare the layers, the largest is full
        ranked.append(copy);
      }
      ranked.addEventListener("keydown", (event) => event.stopPropagation());
      heads[at].setAttribute("aria-sort", "descending");
      body.append(ranked);
      body.scrollTop = 0;
      said.textContent = `${found.length} layers by ${heads[at].textContent}, the largest first`;
    }
    heads.forEach((head, at) => {
      head.innerHTML = `<button type="button" title="Rank the layers; again: the tree">${head.innerHTML}</button>`;
      head.firstChild.onclick = () => turn(at);
    });
    return () => ranked && turn(ranked.at);
  }

  for (const root of document.querySelectorAll(".ms-js:not(.ms-flow)")) {
    root.classList.add("ms-flow");
    setUp(root);
  }
})();
