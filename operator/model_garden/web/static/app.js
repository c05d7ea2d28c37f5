// What pages do beyond htmx: copies, and forms that are sent once. Every page also works without this file.
"use strict";

document.addEventListener("click", (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) copyText(copy, document.getElementById(copy.dataset.copy));
});

// navigator.clipboard is missing where the page comes over plain http from another machine: then the text is selected.
function copyText(button, source) {
  const selected = () => {
    source.closest("details")?.setAttribute("open", "");
    getSelection().selectAllChildren(source);
    button.textContent = "Selected: press Ctrl+C";
  };
  const copied = () => (button.textContent = "Copied");
  if (navigator.clipboard) navigator.clipboard.writeText(source.textContent).then(copied, selected);
  else selected();
}

function showButtons() {
  for (const button of document.querySelectorAll("button[data-copy][hidden]")) button.hidden = false;
}
document.addEventListener("DOMContentLoaded", showButtons);
document.addEventListener("htmx:afterSwap", showButtons);

document.addEventListener("submit", (event) => {
  if (event.submitter) event.submitter.setAttribute("aria-disabled", "true");
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "true";
});
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});
