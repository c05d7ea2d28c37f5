// The live page of a job: charts, questions in a dialog, a log that follows. The page also works without this file.
"use strict";

const HEIGHTS = { loss: 280, small: 130 };
const CLIPPED = 0.02; // the share of values at each end that an axis may leave out
const drawn = new Map(); // chart by its element
const compared = { name: new URLSearchParams(location.search).get("compare") ?? "", curve: null };

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function chosen(key) {
  try {
    return localStorage.getItem(`chart-${key}`) === "true";
  } catch {
    return false; // storage is switched off
  }
}

function choose(key, value) {
  try {
    localStorage.setItem(`chart-${key}`, String(value));
  } catch {
    // the choice lasts until the page is left
  }
}

// Exponential moving average with the weight of TensorBoard's default, corrected for its start.
function smooth(values) {
  let mean = 0;
  let weight = 0;
  return values.map((value) => {
    if (value === null) return null;
    mean = 0.6 * mean + 0.4 * value;
    weight = 0.6 * weight + 0.4;
    return mean / weight;
  });
}

// The lowest and the highest value, without outliers if they are clipped.
function range(values, clip) {
  const sorted = values.filter((value) => value !== null && value !== undefined).sort((a, b) => a - b);
  if (!sorted.length) return [0, 1];
  const cut = clip ? Math.max(1, Math.floor(sorted.length * CLIPPED)) : 0;
  const low = sorted[Math.min(cut, sorted.length - 1)];
  const high = sorted[Math.max(0, sorted.length - 1 - cut)];
  return low < high ? [low, high] : [low - Math.abs(low) * 0.1 - 1e-9, high + Math.abs(high) * 0.1 + 1e-9];
}

// A step with a line of attempts, and a triangle for each checkpoint.
function marks(place) {
  return (chart) => {
    const curve = curveOf(place);
    const { ctx, bbox } = chart;
    const at = (step) => Math.round(chart.valToPos(step, "x", true));
    const inside = (x) => x >= bbox.left && x <= bbox.left + bbox.width;
    ctx.save();
    ctx.strokeStyle = color("--warn");
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
    for (const x of curve.attempts.map(at).filter(inside)) {
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.fillStyle = color("--line-strong");
    const size = 5 * devicePixelRatio;
    const base = bbox.top + bbox.height;
    for (const x of curve.checkpoints.map(at).filter(inside)) {
      ctx.beginPath();
      ctx.moveTo(x - size, base);
      ctx.lineTo(x + size, base);
      ctx.lineTo(x, base - 1.6 * size);
      ctx.fill();
    }
    ctx.restore();
  };
}

function curveOf(place) {
  return JSON.parse(place.closest("[data-curve]").dataset.curve);
}

// Two curves on the steps of both: uPlot's join wants columns of tables.
function joined(mine, other, key) {
  const steps = [...new Set([...mine.step, ...(other?.step ?? [])])].sort((a, b) => a - b);
  const on = (curve, values) => {
    const at = new Map(curve.step.map((step, index) => [step, values?.[index]])); // another method has other figures
    return steps.map((step) => at.get(step) ?? null);
  };
  const columns = key === "loss" ? [mine.loss, smooth(mine.loss), mine.evalLoss] : [mine[key]];
  const others = other ? [on(other, key === "loss" ? smooth(other.loss) : other[key])] : [];
  return [steps, ...columns.map((column) => on(mine, column)), ...others];
}

function series(key, other) {
  const line = (label, stroke, width) => ({ label, stroke: color(stroke), width, spanGaps: true, points: { show: false }, value: figure });
  const own =
    key === "loss"
      ? [
          line("training", "--line-strong", 1),
          line("smoothed", "--accent", 2.5),
          { ...line("evaluation", "--violet", 2), points: { show: true, size: 6, fill: color("--violet") } },
        ]
      : [{ ...line(key, "--accent", 1.5), points: { show: key.startsWith("eval_"), size: 5, fill: color("--accent") } }];
  return [{ label: "step" }, ...own, ...(other ? [{ ...line(other.name, "--warn", 1.5), dash: [6, 3] }] : [])];
}

function figure(_, value) {
  if (value === null || value === undefined) return "–";
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  if (value !== 0 && Math.abs(value) < 0.001) return value.toExponential(1).replace(".0e", "e");
  return String(Number(value.toPrecision(4)));
}

function options(place) {
  const key = place.dataset.series;
  const main = key === "loss";
  const axis = { stroke: color("--ink-soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
  return {
    width: place.clientWidth,
    height: main ? HEIGHTS.loss : HEIGHTS.small,
    padding: [8, 8, 0, 0],
    scales: {
      x: { time: false },
      y: {
        distr: main && chosen("log") ? 3 : 1,
        range: (chart) => {
          const [low, high] = range(chart.data.slice(1).flat(), chosen("clip"));
          if (main && chosen("log")) return uPlot.rangeLog(Math.max(low, 1e-8), Math.max(high, 1e-8), 10, false); // uPlot loops on others
          const room = (high - low) * 0.06;
          return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
        },
      },
    },
    legend: { show: main, live: true },
    cursor: { y: false, sync: { key: "steps" } },
    axes: [
      { ...axis, size: 28 },
      { ...axis, size: 56, space: main ? 40 : 26, values: (_, splits) => splits.map((value) => (value === null ? "" : figure(null, value))) },
    ],
    series: series(key, compared.curve),
    hooks: { draw: [marks(place)] },
  };
}

function draw(place) {
  const curve = curveOf(place);
  if (curve.step.length < 2 || typeof uPlot === "undefined" || !place.clientWidth) return;
  const data = joined(curve, compared.curve, place.dataset.series);
  const chart = drawn.get(place);
  if (chart && chart.series.length === data.length && place.contains(chart.root)) {
    chart.setData(data);
    return;
  }
  chart?.destroy();
  place.replaceChildren();
  drawn.set(place, new uPlot(options(place), data, place));
}

function redraw() {
  for (const [place, chart] of drawn) {
    chart.destroy();
    drawn.delete(place);
  }
  drawAll();
}

function drawAll() {
  for (const place of document.querySelectorAll(".chart[data-series]")) draw(place);
  const tools = document.querySelector(".chart-tools");
  if (!tools) return;
  tools.hidden = false;
  for (const box of tools.querySelectorAll("[type=checkbox]")) box.checked = chosen(box.dataset.chart);
  const key = document.querySelector(".key.other");
  key.hidden = !compared.curve;
  key.textContent = compared.name;
}

async function compare(name) {
  compared.name = name;
  compared.curve = null;
  if (name) {
    const path = location.pathname.replace(/\/[^/]*$/, "").replace(/\/new$/, "");
    const answer = await fetch(`${path}/${encodeURIComponent(name)}/curve${location.search}`);
    const curve = answer.ok ? await answer.json() : null;
    if (compared.name !== name) return; // another one was chosen meanwhile
    compared.curve = curve;
  }
  const address = new URL(location.href);
  if (compared.curve) address.searchParams.set("compare", name);
  else address.searchParams.delete("compare");
  history.replaceState(history.state, "", address);
  redraw();
}

// Parts that a person has changed stay as they are while the page is brought up to date.
function keepWhatPeopleChanged() {
  Object.assign(Idiomorph.defaults.callbacks, {
    beforeNodeMorphed: (before, after) => {
      if (before.nodeType !== Node.ELEMENT_NODE) return true;
      if (before.matches(".chart-tools")) return false;
      if (!before.matches(".chart[data-series]") || !drawn.has(before)) return true;
      before.setAttribute("aria-label", after.getAttribute("aria-label"));
      return false;
    },
    beforeAttributeUpdated: (name, node) => !(name === "open" && node.matches("details")) && !(name === "hidden" && node.matches("[data-copy], .key")),
  });
}

document.addEventListener("DOMContentLoaded", () => {
  if (typeof Idiomorph !== "undefined") keepWhatPeopleChanged();
  drawAll();
  if (compared.name) compare(compared.name);
});
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.target.id === "live") drawAll();
});
document.addEventListener("htmx:afterSettle", (event) => {
  if (event.target.matches("[data-chart=compare]")) event.target.value = compared.name;
});
document.addEventListener("change", (event) => {
  const key = event.target.dataset?.chart;
  if (!key) return;
  if (key === "compare") {
    compare(event.target.value);
    return;
  }
  choose(key, event.target.checked);
  redraw();
});
// Arrow keys move the cursor of the charts as a mouse does; the legend has the figures of its step.
document.addEventListener("keydown", (event) => {
  const chart = drawn.get(event.target);
  const by = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
  if (!chart || by === undefined) return;
  event.preventDefault();
  const steps = chart.data[0];
  const at = chart.cursor.idx ?? (by < 0 ? steps.length : -1);
  chart.setCursor({ left: chart.valToPos(steps[Math.min(Math.max(at + by, 0), steps.length - 1)], "x"), top: 0 });
});
addEventListener("resize", () => {
  for (const [place, chart] of drawn) chart.setSize({ width: place.clientWidth, height: chart.height });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

// A question opens in a dialog; its link leads to the same question as a page. The page may draw that link again while
// the dialog is open: then the browser does not find it to give the focus back.
let asked = "";
document.addEventListener("click", async (event) => {
  const dialog = document.getElementById("question");
  if (!dialog || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (event.target === dialog || event.target.closest("#question [data-close]")) {
    event.preventDefault();
    dialog.close();
    return;
  }
  const link = event.target.closest("a[data-question]");
  if (!link) return;
  event.preventDefault();
  asked = link.getAttribute("href");
  await htmx.ajax("GET", asked, { target: "#question-content", swap: "innerHTML" });
  if (!dialog.open) dialog.showModal();
});
document.addEventListener(
  "close",
  (event) => {
    if (event.target.id !== "question" || !document.activeElement.matches("body, #question *")) return;
    const links = [...document.querySelectorAll("a[data-question]")];
    links.find((link) => link.getAttribute("href") === asked)?.focus();
  },
  true,
);

// A log that was scrolled to its end stays there when new lines come; else it stays where it is read.
const scrolled = new WeakMap();
document.addEventListener("htmx:beforeSwap", (event) => {
  const lines = event.target.matches(".follow") && event.target.querySelector("pre");
  if (!lines) return;
  const end = lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 8;
  scrolled.set(event.target, end ? null : lines.scrollTop);
});
document.addEventListener("DOMContentLoaded", () => {
  for (const lines of document.querySelectorAll(".follow pre")) lines.scrollTop = lines.scrollHeight;
});
document.addEventListener("htmx:afterSwap", (event) => {
  const lines = event.target.matches(".follow") && event.target.querySelector("pre");
  if (lines) lines.scrollTop = scrolled.get(event.target) ?? lines.scrollHeight;
});
