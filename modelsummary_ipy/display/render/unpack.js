(() => {
  "use strict";
  // What came compressed takes the place of the plain rows, and its script runs. Where a browser can't read it they stay.
  async function unpack(root, whole) {
    root.style.visibility = "hidden"; // without its style, the page is not to be seen for a moment
    try {
      const bytes = Uint8Array.from(atob(whole.dataset.page), (letter) => letter.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
      const [markup, script, ...listings] = (await new Response(stream).text()).split("\x01");
      whole.innerHTML = markup;
      whole.querySelectorAll(".ms-x").forEach((place, at) => (place.innerHTML = listings[at]));
      whole.removeAttribute("data-page");
      const made = Object.assign(document.createElement("script"), { textContent: script });
      root.append(made); // runs here and now
      made.remove();
    } finally {
      root.style.visibility = "";
    }
  }
  if (!window.DecompressionStream) return;
  for (const root of document.querySelectorAll(".ms-root")) {
    const whole = root.querySelector(".ms-whole");
    if (whole.dataset.page && !root.msReady) root.msReady = unpack(root, whole);
  }
})();
