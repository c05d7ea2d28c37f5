// What pages do beyond htmx: charts, copying, questions before an action. Every page also works without this file.
"use strict";

const charts = new WeakMap();

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
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

function marks(curve) {
  return (chart) => {
    const context = chart.ctx;
    context.save();
    context.strokeStyle = color("--line-strong");
    context.setLineDash([4, 4]);
    for (const step of [...curve.attempts, ...(curve.checkpoint === null ? [] : [curve.checkpoint])]) {
      const x = Math.round(chart.valToPos(step, "x", true));
      if (x < chart.bbox.left || x > chart.bbox.left + chart.bbox.width) continue;
      context.beginPath();
      context.moveTo(x, chart.bbox.top);
      context.lineTo(x, chart.bbox.top + chart.bbox.height);
      context.stroke();
    }
    context.restore();
  };
}

function draw(place) {
  const curve = JSON.parse(place.dataset.curve);
  if (curve.step.length < 2 || typeof uPlot === "undefined") return;
  const axis = { stroke: color("--ink-soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
  const line = (label, stroke, width) => ({ label, stroke: color(stroke), width, spanGaps: true, points: { show: false } });
  place.replaceChildren();
  const chart = new uPlot(
    {
      width: place.clientWidth,
      height: 240,
      scales: { x: { time: false } },
      legend: { show: false },
      cursor: { y: false },
      axes: [{ ...axis, size: 32 }, { ...axis, size: 44 }],
      series: [
        { label: "step" },
        line("loss", "--line-strong", 1),
        line("smoothed", "--accent", 2.5),
        { ...line("evaluation", "--violet", 2), points: { show: true, size: 6, fill: color("--violet") } },
      ],
      hooks: { draw: [marks(curve)] },
    },
    [curve.step, curve.loss, smooth(curve.loss), curve.evalLoss],
    place,
  );
  charts.set(place, chart);
}

function drawAll(root) {
  for (const place of root.querySelectorAll(".chart[data-curve]")) draw(place);
}

document.addEventListener("DOMContentLoaded", () => drawAll(document));
document.addEventListener("htmx:afterSwap", (event) => drawAll(event.target));
window.addEventListener("resize", () => {
  for (const place of document.querySelectorAll(".chart[data-curve]")) {
    charts.get(place)?.setSize({ width: place.clientWidth, height: 240 });
  }
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll(document));

document.addEventListener("click", (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    const done = () => (copy.textContent = "Copied");
    navigator.clipboard?.writeText(document.getElementById(copy.dataset.copy).textContent).then(done);
  }
});

document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !confirm(question)) {
    event.preventDefault();
    return;
  }
  if (event.submitter) event.submitter.setAttribute("aria-disabled", "true");
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "true";
});
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});
