// Copies the line that stands before the style whose load this handles. A browser allows that for some seconds after a
// click; where it does not, the line is selected, ready for Ctrl+C.
((style) => {
  "use strict";
  const holder = style.parentElement;
  if (!holder) return; // another line may have come before this handler ran
  const [code, said] = [holder.querySelector("code"), holder.querySelector("[role=status]")];
  const byHand = () => {
    getSelection().selectAllChildren(code);
    said.textContent = document.execCommand("copy") ? "copied" : "selected: copy it with Ctrl+C";
  };
  if (navigator.clipboard) navigator.clipboard.writeText(code.textContent).then(() => (said.textContent = "copied"), byHand);
  else byHand();
})
