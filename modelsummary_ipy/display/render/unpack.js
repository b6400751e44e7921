(() => {
  "use strict";
  const letters = "abcdefghijklmnopqrstuvwxyz";
  const digits = "0123456789" + letters.toUpperCase() + letters + "!#[%,()*+-;.=/?@^_:{|}~";

  // Five digits of base 85 are four bytes; of the last five, what is missing stands for the largest one.
  function decode(text) {
    const view = new DataView(new ArrayBuffer(4 * Math.ceil(text.length / 5)));
    for (let at = 0; at < text.length; at += 5) {
      const number = [...text.slice(at, at + 5).padEnd(5, "~")].reduce((sum, digit) => 85 * sum + digits.indexOf(digit), 0);
      view.setUint32((at / 5) * 4, number);
    }
    return new Uint8Array(view.buffer, 0, Math.floor((4 * text.length) / 5));
  }

  // What came compressed takes the place of the plain rows, and its script runs. Where a browser can't read it they stay.
  async function unpack(root, whole) {
    root.style.visibility = "hidden"; // without its style, the page is not to be seen for a moment
    try {
      const bytes = decode(whole.dataset.page);
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
