// Files that are chosen or dropped: a TrainingJob fills the form, all else is uploaded with its progress shown.
"use strict";

let chosen = []; // {path, file}: what "Upload" sends
let request = null;

const byId = (id) => document.getElementById(id);
const MIB = 1024 * 1024;
const size = (bytes) => (bytes < MIB ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / MIB).toFixed(1)} MiB`);

// A folder's own name is the data set's name, and its files are named from inside it.
function choose(files) {
  const tops = new Set(files.map(({ path }) => (path.includes("/") ? path.split("/")[0] : "")));
  const [top] = tops;
  const folder = tops.size === 1 && top ? top : "";
  chosen = files
    .map(({ path, file }) => ({ path: folder ? path.slice(folder.length + 1) : path, file }))
    .filter(({ path }) => !path.split("/").some((part) => part.startsWith(".")));
  const data = chosen.find(({ path }) => /\.(jsonl|json|csv|parquet)$/i.test(path)) ?? chosen[0];
  if (!data) return;
  const name = folder || data.path.split("/").pop().replace(/\.[^.]*$/, "");
  if (byId("upload-name").value === "") byId("upload-name").value = name;
  const bytes = chosen.reduce((sum, { file }) => sum + file.size, 0);
  byId("upload-chosen").textContent = `${chosen.length} file${chosen.length === 1 ? "" : "s"}, ${size(bytes)}: ${data.path}${chosen.length > 1 ? " and others" : ""}`;
  byId("upload-problems").hidden = true;
}

function fail(lines, columns = []) {
  const place = byId("upload-problems");
  place.replaceChildren(...lines.map((line) => Object.assign(document.createElement("p"), { textContent: line })));
  if (columns.length) {
    const pairs = columns.map(([key, column]) => `${column} as ${key}`).join(", ");
    const button = Object.assign(document.createElement("button"), { type: "button", className: "button small", textContent: "Use these columns and upload again" });
    button.addEventListener("click", () => {
      fillColumns(columns);
      byId("upload-start").focus(); // the button goes
      upload();
    });
    const words = Object.assign(document.createElement("p"), { textContent: `Read these columns: ${pairs}. ` });
    words.append(button);
    place.append(words);
  }
  place.hidden = false;
}

function done(report) {
  chosen = [];
  byId("upload-name").value = "";
  byId("upload-chosen").textContent = "";
  byId("source-workspace").checked = true;
  fill("dataset_path", report.path);
  htmx.trigger("#datasets", "refresh");
  byId("dataset_path").focus();
  announce(`${report.added} file${report.added === 1 ? "" : "s"} stored in ${report.folder}.`);
}

function answer() {
  let said = {};
  try {
    said = JSON.parse(request.responseText);
  } catch {
    said = { detail: "The server gave no answer that can be read. Upload the files again." };
  }
  if (request.status === 200) done(said);
  else {
    const lines = said.errors?.length ? said.errors.map((one) => `${one.field}: ${one.message}`) : [said.detail];
    fail(lines, Object.entries(said.suggested_columns ?? {}));
  }
}

function upload() {
  const body = new FormData();
  body.append("csrf_token", document.querySelector("#upload-form [name=csrf_token]").value);
  body.append("folder", byId("upload-name").value);
  body.append("keep_invalid", String(byId("upload-keep").checked));
  for (const [name, value] of new FormData(form())) {
    if (/^(method|fetch_pictures|column_mapping\.\w+)$/.test(name) && value) body.append(name, value);
  }
  for (const { path, file } of chosen) body.append("files", file, path);
  request = new XMLHttpRequest();
  request.open("POST", byId("upload-form").getAttribute("action"));
  request.setRequestHeader("Accept", "application/json");
  request.upload.onprogress = (event) => {
    byId("upload-bar").value = event.loaded / event.total;
    const sent = event.loaded === event.total ? "Checking every row…" : `${size(event.loaded)} of ${size(event.total)}`;
    byId("upload-words").textContent = sent;
  };
  request.onload = answer;
  request.onerror = () => fail(["The connection broke off, and nothing was stored. Upload the files again."]);
  request.onloadend = () => {
    byId("upload-start").removeAttribute("aria-disabled");
    if (document.activeElement === byId("upload-cancel")) byId("upload-start").focus();
    byId("upload-progress").hidden = true;
    request = null;
  };
  byId("upload-problems").hidden = true;
  byId("upload-progress").hidden = false;
  byId("upload-start").setAttribute("aria-disabled", "true"); // a disabled button would lose the focus
  request.send(body);
}

document.addEventListener("change", (event) => {
  if (!["upload-files", "upload-folder"].includes(event.target.id)) return;
  choose([...event.target.files].map((file) => ({ path: file.webkitRelativePath || file.name, file })));
});
document.addEventListener("submit", (event) => {
  if (event.target.id !== "upload-form") return;
  event.preventDefault();
  event.stopImmediatePropagation();
  if (request) return;
  if (chosen.length) upload();
  else fail(["Choose at least one file."]);
}, true);
document.addEventListener("click", (event) => {
  if (event.target.id === "upload-cancel") request.abort();
});

async function filesOf(entry) {
  if (entry.isFile) {
    const file = await new Promise((found, failed) => entry.file(found, failed));
    return [{ path: entry.fullPath.slice(1), file }];
  }
  const reader = entry.createReader();
  const entries = [];
  for (;;) {
    const some = await new Promise((found, failed) => reader.readEntries(found, failed));
    if (!some.length) break; // a browser gives a hundred entries at a time
    entries.push(...some);
  }
  return (await Promise.all(entries.map(filesOf))).flat();
}

document.addEventListener("dragover", (event) => {
  if (![...event.dataTransfer.types].includes("Files")) return;
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("dropping");
});
document.addEventListener("drop", async (event) => {
  document.body.classList.remove("dropping");
  const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
  if (!items.length) return;
  event.preventDefault();
  const entries = items.map((item) => item.webkitGetAsEntry?.());
  const plain = items.map((item) => item.getAsFile()); // both at once: the items are gone after the first wait
  const jobs = plain.filter((file) => file && /\.ya?ml$/i.test(file.name));
  if (jobs.length) {
    fillFrom(jobs[0]);
    return;
  }
  const found = await Promise.all(entries.map((entry, at) => (entry ? filesOf(entry) : [{ path: plain[at].name, file: plain[at] }])));
  byId("source-upload").checked = true;
  choose(found.flat());
  byId("upload-start").focus();
});
