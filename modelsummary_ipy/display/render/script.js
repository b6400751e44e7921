(() => {
  "use strict";
  const rowsOf = (root) => [...root.querySelectorAll(".ms-r")];
  const headOf = (row) => row.querySelector(":scope > summary");
  const parentOf = (row) => row.parentElement.closest(".ms-r");

  function setUp(root) {
    root.classList.add("ms-js");
    const whole = root.querySelector(".ms-whole");
    const body = root.querySelector(".ms-body");
    const rows = rowsOf(body);
    const facts = new Map();
    for (const row of rows) {
      const above = parentOf(row);
      const path = row.querySelector(":scope > .ms-d .ms-p, :scope > .ms-a .ms-p");
      const name = headOf(row).querySelector("th");
      const list = row.classList.contains("ms-g") ? row.querySelector(":scope > .ms-a dd") : null;
      facts.set(row, {
        above,
        depth: above ? facts.get(above).depth + 1 : 0,
        path: path ? path.textContent : "",
        text: [name.firstChild, name.querySelector("i"), path, list].map((part) => (part ? part.textContent : "")).join(" ").toLowerCase(),
        flagged: row.matches(".ms-flag, :has(> .ms-fail)"),
        op: row.classList.contains("ms-o"),
        hidden: row.hidden,
      });
    }
    const deepest = Math.max(0, ...rows.filter((row) => !facts.get(row).op).map((row) => facts.get(row).depth));
    const bar = makeBar();
    body.before(bar.element);
    // JupyterLab looks for this on the focused element itself; without it `x` on a row cuts the cell.
    root.addEventListener("focusin", (event) => event.target.setAttribute("data-lm-suppress-shortcuts", "true"));

    // Making ------------------------------------------------------------------------------------------------------

    function makeBar() {
      const element = document.createElement("div");
      element.className = "ms-bar";
      element.setAttribute("role", "toolbar");
      element.setAttribute("aria-label", "Layers");
      const add = (tag, properties) => {
        const made = Object.assign(document.createElement(tag), properties);
        element.append(made);
        return made;
      };
      const button = (text, title, act) => add("button", { type: "button", textContent: text, title, onclick: act });
      const toggle = (text, title, act) => {
        const made = button(text, title, () => {
          const on = made.getAttribute("aria-pressed") !== "true";
          made.setAttribute("aria-pressed", String(on));
          act(on);
        });
        made.setAttribute("aria-pressed", "false");
        return made;
      };
      const search = add("input", { type: "search", placeholder: "search name or type  /", autocomplete: "off" });
      search.setAttribute("aria-label", "Search layers by name or type");
      search.spellcheck = false;
      let timer = 0;
      search.oninput = () => {
        clearTimeout(timer);
        timer = setTimeout(filter, 90);
      };
      if (deepest > 0) {
        add("span", { textContent: "levels" });
        button("−", "One level less", () => toDepth(depthShown() - 1)).setAttribute("aria-label", "One level less");
        button("+", "One level more", () => toDepth(depthShown() + 1)).setAttribute("aria-label", "One level more");
        button("all", "Open every level", () => toDepth(deepest));
      }
      const only = body.querySelector(".ms-f, .ms-fail") ? toggle("flagged", "Only rows with findings", filter) : null;
      const ops = rows.filter((row) => facts.get(row).hidden);
      if (ops.length) {
        // The footer has the number of all; those inside folded blocks are not on the page.
        const foot = root.querySelector(".ms-ops");
        const none = (foot.textContent = foot.textContent.replace(/ \(.*/, ""));
        const shown = none.replace("not ", "").replace(/^([\d,]+)/, (all) => (Number(all.replace(/,/g, "")) > ops.length ? `${ops.length} of ${all}` : all));
        toggle("operations", "Show operations between the layers", (on) => {
          for (const row of ops) row.hidden = !on;
          foot.textContent = on ? shown : none;
          filter();
        });
      }
      button("copy path", "Copy the path of the current row  c", () => copy(current));
      const said = add("output", {});
      return { element, search, only, said };
    }

    // Opening -----------------------------------------------------------------------------------------------------

    const holds = (row) => !row.classList.contains("ms-l");

    function depthShown() {
      let depth = deepest;
      for (const row of rows) {
        const fact = facts.get(row);
        if (holds(row) && !row.open && !fact.op && isInView(row)) depth = Math.min(depth, fact.depth);
      }
      return depth;
    }

    function toDepth(depth) {
      const wanted = Math.max(0, Math.min(depth, deepest));
      for (const row of rows) {
        if (holds(row)) row.open = facts.get(row).depth < wanted;
        else row.open = false;
      }
      bar.said.textContent = `${wanted} of ${deepest} levels open`;
    }

    const isInView = (row) => {
      for (let above = facts.get(row).above; above; above = facts.get(above).above) if (!above.open) return false;
      return !row.hidden && !row.classList.contains("ms-no");
    };

    // Filtering ---------------------------------------------------------------------------------------------------

    let before = null;
    root.msOpenOf = (row) => (before && before.has(row) ? before.get(row) : row.open);

    function filter() {
      const words = bar.search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
      const only = bar.only !== null && bar.only.getAttribute("aria-pressed") === "true";
      if (!words.length && !only) {
        for (const row of rows) row.classList.remove("ms-no", "ms-hit");
        if (before) for (const [row, open] of before) row.open = open;
        before = null;
        bar.said.textContent = "";
        return;
      }
      before = before || new Map(rows.map((row) => [row, row.open]));
      const kept = new Set();
      const opened = new Set();
      let found = 0;
      for (const row of rows) {
        const fact = facts.get(row);
        if (row.hidden || (only && !fact.flagged) || !words.every((word) => fact.text.includes(word))) continue;
        found += 1;
        row.classList.toggle("ms-hit", words.length > 0);
        kept.add(row);
        for (let above = fact.above; above && !opened.has(above); above = facts.get(above).above) {
          opened.add(above);
          kept.add(above);
        }
      }
      for (const row of rows) {
        row.classList.toggle("ms-no", !kept.has(row) && !inFound(row, kept, opened));
        if (!kept.has(row)) row.classList.remove("ms-hit");
        if (holds(row)) row.open = opened.has(row);
      }
      bar.said.textContent = found === 1 ? "1 row" : `${found} rows`;
    }

    // What is inside a row that was found stays reachable, closed.
    function inFound(row, kept, opened) {
      for (let above = facts.get(row).above; above; above = facts.get(above).above) {
        if (kept.has(above)) return !opened.has(above);
      }
      return false;
    }

    // Moving and copying ------------------------------------------------------------------------------------------

    let current = null;

    body.addEventListener("focusin", (event) => {
      const row = event.target.closest(".ms-r");
      if (facts.has(row)) current = row; // a row of a ranking is a copy
    });
    body.addEventListener("click", (event) => {
      const head = event.target.closest("summary");
      const selection = getSelection();
      if (head && event.detail > 0 && !selection.isCollapsed && head.contains(selection.anchorNode)) {
        event.preventDefault();
      }
    });

    function copy(row) {
      const path = row ? facts.get(row).path : "";
      if (!path) {
        bar.said.textContent = row ? "this row has no path of its own" : "choose a row first";
        return;
      }
      const done = () => (bar.said.textContent = `copied ${path}`);
      const byHand = () => {
        const field = Object.assign(document.createElement("textarea"), { value: path });
        root.append(field);
        field.select();
        document.execCommand("copy");
        field.remove();
        if (row) headOf(row).focus();
        done();
      };
      if (navigator.clipboard) navigator.clipboard.writeText(path).then(done, byHand);
      else byHand();
    }

    function move(row, step) {
      const shown = rows.filter(isInView);
      const at = shown.indexOf(row);
      const next = step === "first" ? shown[0] : step === "last" ? shown[shown.length - 1] : shown[at + step];
      if (next) headOf(next).focus();
    }

    root.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const row = event.target.matches(".ms-r > summary") ? event.target.parentElement : null;
      const typing = event.target.matches("input");
      const keys = {
        ArrowDown: () => (row ? move(row, 1) : typing && move(null, "first")),
        ArrowUp: () => row && move(row, -1),
        Home: () => row && move(row, "first"),
        End: () => row && move(row, "last"),
        ArrowRight: () => row && (row.open ? move(row, 1) : (row.open = true)),
        ArrowLeft: () => {
          if (!row) return;
          if (row.open) row.open = false;
          else if (facts.get(row).above) headOf(facts.get(row).above).focus();
        },
        c: () => row && copy(row),
        "/": () => bar.search.focus(),
        Escape: () => {
          bar.search.value = "";
          filter();
          if (typing && current) headOf(current).focus();
        },
      };
      const act = keys[event.key];
      if (!act || (typing && !["ArrowDown", "Escape"].includes(event.key)) || (!row && !typing && event.key !== "/")) {
        return;
      }
      event.preventDefault();
      event.stopPropagation();
      act();
    });
    // Where it failed ----------------------------------------------------------------------------------------------

    root.msReveal = (row) => {
      if (row.hidden || !isInView(row)) {
        bar.search.value = "";
        if (bar.only) bar.only.setAttribute("aria-pressed", "false");
        filter();
        row.hidden = false;
      }
      for (let above = facts.get(row).above; above; above = facts.get(above).above) above.open = true;
      const below = headOf(row).getBoundingClientRect().top - body.getBoundingClientRect().top;
      // under the heads of the columns, with the row before it in view
      if (below < 60 || below + row.offsetHeight > body.clientHeight) body.scrollTop += below - 60;
    };
    const failed = rows.find((row) => row.matches(":has(> .ms-fail)"));
    const banner = whole.querySelector(".ms-how.ms-error");
    if (failed && banner) {
      const go = { type: "button", className: "ms-go", textContent: "show the row" };
      const show = () => (root.msReveal(failed), headOf(failed).focus());
      banner.append(Object.assign(document.createElement("button"), go, { onclick: show }));
      root.msReveal(failed);
      root.msTop = body.scrollTop;
    }
    if (root.parentElement && root.parentElement.msShown) root.parentElement.msShown(root);
  }

  for (const root of document.querySelectorAll(".ms-root:not(.ms-js):has(> .ms-whole:not([data-page]))")) setUp(root);
})();
