// The form of a new job beyond htmx: marks, undo, what is typed stays, files. The form also works without this file.
"use strict";

const REDRAWN = "form-fields";
const KEPT_IN_ADDRESS = 6000; // characters: servers and browsers take an address of this length
let sent = new Map(); // what the inputs held when the form was sent to be drawn again

const form = () => document.getElementById("new-job");

function inputs() {
  const all = document.querySelectorAll(`#${REDRAWN} :is(input, select, textarea)[id]`);
  return [...all].filter((input) => !["radio", "hidden", "file", "checkbox"].includes(input.type));
}

function announce(text) {
  document.getElementById("form-news").textContent = text;
}

// A setting is changed where it holds another value than the default, which an empty input shows.
function isChanged(input) {
  const [value, standard] = [input.value.trim(), input.placeholder ?? ""];
  return value !== "" && value !== standard && (standard === "" || Number(value) !== Number(standard));
}

function mark(input) {
  input.closest(".grid .field")?.classList.toggle("changed", isChanged(input));
  document.getElementById("reset").hidden = !document.querySelector(".grid .changed");
}

function fill(id, value) {
  const input = document.getElementById(id);
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  input.dispatchEvent(new Event("change", { bubbles: true }));
}

function fillColumns(pairs) {
  const filled = pairs.map(([key, column]) => {
    const input = document.getElementById(`field-column_mapping-${key}`);
    input.closest("details").open = true;
    input.value = column;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    return input;
  });
  announce(`Columns of the data set in the settings: ${pairs.map(([key, column]) => `${column} as ${key}`).join(", ")}.`);
  return filled;
}

// The address holds what the form holds: a refresh keeps it, and a copied link fills the form.
function keepInAddress() {
  const query = new URLSearchParams();
  const namespace = new URLSearchParams(location.search).get("namespace");
  if (namespace) query.set("namespace", namespace);
  for (const [name, value] of new FormData(form())) {
    if (typeof value === "string" && value !== "" && !/^(csrf_|checked_)/.test(name)) query.set(name, value);
  }
  const address = `${form().getAttribute("action").split("?")[0]}?${query}`;
  if (address.length <= KEPT_IN_ADDRESS) history.replaceState(history.state, "", address);
}

document.addEventListener("DOMContentLoaded", () => {
  if (form().getAttribute("action").split("?")[0] !== location.pathname) keepInAddress();
});
document.addEventListener("input", (event) => {
  if (!form()?.contains(event.target)) return;
  mark(event.target);
  keepInAddress();
});
document.addEventListener("change", (event) => {
  if (form()?.contains(event.target)) keepInAddress();
});

document.addEventListener("click", (event) => {
  const choice = event.target.closest("[data-choose]");
  if (choice) {
    event.preventDefault();
    for (const one of document.querySelectorAll("[data-choose]")) one.setAttribute("aria-pressed", String(one === choice));
    fill("dataset_path", choice.dataset.choose);
  }
  const columns = event.target.closest("[data-columns]");
  if (columns) {
    event.preventDefault(); // without this file, the server fills them in
    document.getElementById("dataset_path").focus(); // the button goes
    const pairs = columns.value.split("\n").map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]);
    fillColumns(pairs)[0].dispatchEvent(new Event("change", { bubbles: true })); // once: each reads the rows again
  }
  if (event.target.id === "reset") {
    event.preventDefault();
    const changed = [...document.querySelectorAll(".grid .changed > :is(input, select)")];
    changed.forEach((input) => fill(input.id, ""));
    changed[0]?.focus(); // the button is gone
  }
  const undo = event.target.closest("[data-undo]");
  if (undo) {
    event.preventDefault(); // without this file, the server undoes it
    fill(undo.dataset.undo, "");
    document.getElementById(undo.dataset.undo).focus();
  }
});

// The form is drawn again when type, model or use case change. What is typed meanwhile and what is open stays; a default
// that changed is shown.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.target?.id === REDRAWN) sent = new Map(inputs().map((input) => [input.id, input.value]));
});
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target.id !== REDRAWN || !event.detail.shouldSwap) return;
  const typed = inputs().filter((input) => sent.get(input.id) !== input.value && input.id !== "base_model");
  const values = new Map(typed.map((input) => [input.id, input.value]));
  const standards = new Map(inputs().map((input) => [input.id, input.placeholder]));
  const source = document.querySelector("[name=source]:checked").id;
  const open = [...document.querySelectorAll(`#${REDRAWN} details`)].map((one) => one.open);
  const keep = () => { // before the rows are asked for, and before the focus is set into a panel
    document.getElementById(source).checked = true;
    document.getElementById("upload-problems").hidden = true; // they are of the rows as the form read them before
    for (const input of inputs()) if (values.has(input.id)) input.value = values.get(input.id);
  };
  const show = () => {
    const followed = [];
    for (const input of inputs()) {
      mark(input);
      const field = input.closest(".grid .field");
      if (field && standards.has(input.id) && standards.get(input.id) !== input.placeholder) {
        field.classList.add("follows");
        followed.push(`${field.querySelector("label").textContent.trim()} ${input.placeholder}`);
      }
    }
    document.querySelectorAll(`#${REDRAWN} details`).forEach((one, number) => (one.open = one.open || open[number]));
    announce(followed.length ? `New defaults: ${followed.join(", ")}` : "");
    keepInAddress();
    form().dispatchEvent(new Event("change")); // what was drawn is of what was sent: run and memory follow
  };
  document.addEventListener("htmx:afterSwap", keep, { once: true }); // of this swap: it is done, and settles, before any other
  document.addEventListener("htmx:afterSettle", show, { once: true });
});

// A part is not drawn again while a button in it is pressed: the browser would find no button to click where it is let
// go. For each such part: its buttons, and the element whose change has it drawn.
const PRESSED = {
  preview: { buttons: "button", drawnBy: "new-job" },
  rows: { buttons: "#check button", drawnBy: "dataset_path" }, // other buttons ask for another page of rows
};
const missed = new Set();
for (const name of ["htmx:beforeSwap", "htmx:oobBeforeSwap"]) {
  document.addEventListener(name, ({ detail }) => {
    const part = PRESSED[detail.target.id];
    if (!part || !detail.target.querySelector(`:is(${part.buttons}):active`)) return;
    detail.shouldSwap = false;
    missed.add(part.drawnBy);
  });
}
for (const name of ["pointerup", "pointercancel", "keyup"]) {
  document.addEventListener(name, () => {
    for (const id of missed) document.getElementById(id).dispatchEvent(new Event("change", { bubbles: true }));
    missed.clear();
  });
}

// A YAML file that is dropped or chosen fills the form.
async function fillFrom(file) {
  const text = document.getElementById("job-file-text");
  text.value = await file.text();
  document.getElementById("job-file").open = true;
  text.form.requestSubmit();
}

document.addEventListener("change", (event) => {
  if (event.target.id === "job-file-pick" && event.target.files.length) fillFrom(event.target.files[0]);
});
