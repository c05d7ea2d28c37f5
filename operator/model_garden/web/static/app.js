// What pages do beyond htmx: copies, forms that are sent once, the focus. Every page also works without this file.
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

// A part of the page that is drawn again keeps the focus: on the same control, else on its first one, else on the part.
let focused = null;

const words = (node) => [node.tagName, node.id || node.getAttribute("aria-label") || node.textContent.trim() || node.name].join(" ");

function controls(part) {
  const all = part.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]");
  return [...all].filter((node) => node.tabIndex >= 0 && !node.disabled && node.checkVisibility());
}

function rememberFocus(part) {
  const node = document.activeElement;
  const alike = controls(part).filter((other) => words(other) === words(node));
  if (part.contains(node)) focused = { node, part, words: words(node), nth: alike.indexOf(node) };
}

function keepFocus() {
  if (!focused) return;
  const { node, part, ...same } = focused;
  focused = null;
  if (node.isConnected || document.activeElement !== document.body) return;
  const drawn = part.isConnected ? part : (document.getElementById(part.id) ?? document.getElementById("main"));
  const now = controls(drawn);
  const found = now.filter((other) => words(other) === same.words)[same.nth] ?? now[0] ?? drawn;
  if (found === drawn) drawn.tabIndex = -1;
  found.focus({ preventScroll: found === drawn });
}
document.addEventListener("htmx:beforeSwap", (event) => rememberFocus(event.detail.target));
document.addEventListener("htmx:sseBeforeMessage", (event) => rememberFocus(event.target));
document.addEventListener("htmx:afterSettle", keepFocus);
