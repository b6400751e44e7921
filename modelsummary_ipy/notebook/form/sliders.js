// Gives the handle of every slider of a form the name that stands beside it: ipywidgets gives it none to be read aloud.
((form) => {
  "use strict";
  if (!form || form.msSliders) return;
  const label = () => {
    for (const handle of form.querySelectorAll(".widget-slider .noUi-handle")) {
      handle.setAttribute("aria-label", handle.closest(".widget-slider").querySelector(".widget-label").textContent);
    }
  };
  form.msSliders = new MutationObserver(label);
  form.msSliders.observe(form, { childList: true, subtree: true });
  label();
})
