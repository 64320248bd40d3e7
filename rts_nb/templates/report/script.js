"use strict";
// Figures open in a dialog; Escape and a click beside the figure close it, and the focus returns to the figure.
const dialog = document.querySelector("#enlarged");
const canvas = dialog.querySelector(".canvas");

for (const button of document.querySelectorAll("button.enlarge")) {
  button.addEventListener("click", () => {
    const shown = button.querySelector("img").cloneNode();
    canvas.replaceChildren(shown);
    dialog.showModal();
    canvas.scrollTo(0, 0);
    canvas.focus();
  });
}
dialog.querySelector(".close").addEventListener("click", () => dialog.close());
canvas.addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
dialog.addEventListener("close", () => canvas.replaceChildren());

// The contents stand open where they have a column of their own.
const contents = document.querySelector("details.contents");
if (contents) {
  const wide = matchMedia("(min-width: 68rem)");
  const follow = () => { contents.open = wide.matches; };
  wide.addEventListener("change", follow);
  follow();
  for (const link of contents.querySelectorAll("a")) {
    link.addEventListener("click", () => { if (!wide.matches) contents.open = false; });
  }
}
