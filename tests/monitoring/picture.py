"""Draws docs/images/dashboard.png: the panels of the chart's dashboard, with what a real Prometheus answers.

    python -m tests.monitoring.picture

It brings up a devcluster, an operator and Prometheus, runs jobs for two minutes, and draws each panel's queries with
uPlot. It is not a screenshot of Grafana.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.async_api import async_playwright

from tests.cluster import TestCluster
from tests.controller.harness import OperatorHarness
from tests.monitoring.programs import Prometheus, prometheus
from tools.generate import CHART, ROOT

IMAGE = ROOT / "docs" / "images" / "dashboard.png"
VENDOR = ROOT / "operator" / "model_garden" / "web" / "static" / "vendor"
DASHBOARD: dict[str, Any] = json.loads((CHART / "files" / "dashboard.json").read_text())
SECONDS = 150
ONE_GPU = {"limits": {"nvidia.com/gpu": 1}, "requests": {"cpu": "10m", "memory": "16Mi"}}
UNITS = {"percentunit": ("%", 100), "s": (" s", 1), "h": (" h", 1), "ops": ("/s", 1)}
PAGE = """<!doctype html><meta charset="utf-8"><style>%(style)s
body { font: 13px system-ui, sans-serif; margin: 16px; background: #f4f5f7; color: #1f2328; width: 1400px }
h1 { font-size: 18px; margin: 0 } p { margin: 4px 0 12px; color: #57606a }
#grid { display: grid; grid-template-columns: repeat(24, 1fr); gap: 8px }
.panel { background: #fff; border: 1px solid #d0d7de; border-radius: 4px; padding: 8px }
.panel h2 { font-size: 13px; margin: 0 0 4px } .u-legend { text-align: left; font-size: 11px }

</style><script>%(script)s</script>
<h1>Model Garden</h1><p>Drawn from the dashboard's queries and real answers of Prometheus, not by Grafana.</p>
<div id="grid"></div><script>
const colors = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#17becf"];
for (const panel of %(panels)s) {
  const box = document.createElement("div"); box.className = "panel"; box.style.gridColumn = `span ${panel.width}`;
  box.innerHTML = "<h2></h2>"; box.firstChild.textContent = panel.title; grid.append(box);
  const value = (_, v) => v == null ? "" : +v.toPrecision(3) + panel.unit;
  const series = panel.series.map((label, at) => ({label, stroke: colors[at %% 9], width: 2, points: {show: false}}));
  const [least, most] = panel.range;
  const range = (_, low, high) => [least ?? low, most ?? (high > low ? high : low + 1)];
  const clock = (_, all) => all.map(second => new Date(1e3 * second).toTimeString().slice(0, 8));
  const figures = (u, all) => all.map(one => value(u, one));
  new uPlot({width: box.clientWidth - 16, height: 190, series: [{}, ...series], scales: {y: {range}},
    legend: {live: false}, axes: [{values: clock, space: 90}, {size: 62, values: figures}]}, panel.data, box);
}
</script>"""


def run_jobs(garden: OperatorHarness) -> None:
    """Jobs of each kind; the last ones train when the picture is taken."""
    garden.submit("invoices", {"STEPS": 400, "STEP_SECONDS": 0.3}, resources=ONE_GPU, quantization="16bit")
    garden.submit("receipts", {"STEPS": 220, "STEP_SECONDS": 0.5})
    garden.submit("contracts", {"STEPS": 120, "STEP_SECONDS": 0.4})
    garden.submit("charts", {"STEPS": 30, "STEP_SECONDS": 0.4, "EXIT_CODE": 1, "FAIL_AT_STEP": 12}, backoffLimit=5)
    garden.submit("letters", {"STEPS": 20, "EXIT_CODE": 3, "FAIL_AT_STEP": 9})
    garden.submit("tables", suspend=True)


def panels(server: Prometheus, begin: float, end: float) -> list[dict[str, Any]]:
    """Each panel with its curves: one time axis, and the values of each series on it."""
    return [_panel(panel, server, begin, end) for panel in DASHBOARD["panels"]]


def _panel(panel: dict[str, Any], server: Prometheus, begin: float, end: float) -> dict[str, Any]:
    (target,) = panel["targets"]
    defaults = panel["fieldConfig"]["defaults"]
    unit, factor = UNITS.get(defaults["unit"], ("", 1))
    window = {"start": str(begin), "end": str(end), "step": "1"}
    found = server.get("query_range", query=target["expr"].replace("$namespace", ".*"), **window)["result"]
    times = [begin + second for second in range(int(end - begin) + 1)]
    points = [{round(float(at)): float(value) * factor for at, value in one["values"]} for one in found]
    data = [[_finite(one.get(round(at))) for at in times] for one in points]
    low, high = (defaults.get(end) for end in ("min", "max"))
    return {
        "title": panel["title"],
        "width": panel["gridPos"]["w"],
        "unit": unit,
        "range": [low if low is None else low * factor, high if high is None else high * factor],
        "series": [_legend(target["legendFormat"], one["metric"]) for one in found],
        "data": [times, *data],
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or value != value else value


def _legend(pattern: str, labels: dict[str, str]) -> str:
    for name, text in labels.items():
        pattern = pattern.replace("{{" + name + "}}", text)
    return pattern


async def draw(drawn: list[dict[str, Any]]) -> None:
    """Write the image."""
    style, script = (next(VENDOR.glob(f"uplot-*.min.{kind}")).read_text() for kind in ("css", "js"))
    page_text = PAGE % {"style": style, "script": script, "panels": json.dumps(drawn)}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 1432, "height": 900})
        await page.set_content(page_text)
        await page.screenshot(path=IMAGE, full_page=True)
        await browser.close()


def main() -> None:
    """Run the jobs, and draw."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cluster = TestCluster(folder / "devcluster")
        cluster.up()
        try:
            cluster.serve_training_jobs()
            garden = OperatorHarness(cluster, "research", folder)
            garden.start_operator(GPU_HOUR_PRICE="2.5")
            with prometheus(folder, [garden.port], CHART / "files" / "alerts.yaml") as server:
                begin = time.time()
                run_jobs(garden)
                time.sleep(SECONDS)
                drawn = panels(server, round(begin), round(time.time()))
            garden.stop_operator()
        finally:
            cluster.down()
    asyncio.run(draw(drawn))
    print(IMAGE)


if __name__ == "__main__":
    main()
