"""The operator's metrics in a real Prometheus: the dashboard's and the alerts' questions have answers."""

import json
import re
from functools import partial
from typing import Any

import pytest

from model_garden.controller.metrics import _FAMILIES
from tests.controller.harness import OperatorHarness
from tests.monitoring.programs import Prometheus, promtool
from tests.monitoring.test_alerts import ALERTS
from tools.generate import CHART, ROOT

pytestmark = pytest.mark.cluster

DASHBOARD = json.loads((CHART / "files" / "dashboard.json").read_text())
METRICS = ROOT / "docs" / "reference" / "metrics.md"


def questions() -> list[tuple[str, str]]:
    """Title of the panel and PromQL of each query of the dashboard, with the variables that Grafana fills in."""
    asked = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [(title, expression.replace("$namespace", ".*")) for title, expression in asked]


@pytest.mark.parametrize(("title", "expression"), questions(), ids=[title for title, _ in questions()])
def test_each_panel_of_the_dashboard_has_data(
    watched: Prometheus, garden: OperatorHarness, title: str, expression: str
) -> None:
    def answer() -> list[Any]:
        return [one for one in watched.query(expression) if one["value"][1] != "NaN"]

    garden.cluster.until(answer, f"{title}: {expression}")


def test_the_variable_of_the_dashboard_lists_the_namespaces(watched: Prometheus) -> None:
    (query,) = [one["query"]["query"] for one in DASHBOARD["templating"]["list"] if one["name"] == "namespace"]
    found = re.fullmatch(r"label_values\((\w+), (\w+)\)", query)
    assert found
    assert "watched" in watched.get(f"label/{found[2]}/values", **{"match[]": found[1]})


def test_every_metric_of_the_dashboard_the_alerts_and_the_reference_is_there(
    watched: Prometheus, garden: OperatorHarness
) -> None:
    named = set(re.findall(r"model_garden_\w+", json.dumps(DASHBOARD) + ALERTS.read_text())) | {
        found[1] for found in re.finditer(r"^\| `(model_garden_\w+)`", METRICS.read_text(), re.MULTILINE)
    }
    assert len(named) > len(_FAMILIES)
    for name in named:
        exactly = {"match[]": f'{{__name__=~"{name}(_count)?"}}'}
        garden.cluster.until(partial(watched.get, "series", **exactly), name)


def test_the_figures_are_those_of_the_status(watched: Prometheus, garden: OperatorHarness) -> None:
    def value(metric: str, **labels: str) -> list[str]:
        chosen = ",".join(f'{key}="{text}"' for key, text in {"namespace": "watched", **labels}.items())
        return [one["value"][1] for one in watched.query(f"{metric}{{{chosen}}}")]

    def reaches(least: float, metric: str, **labels: str) -> bool:
        return any(float(one) >= least for one in value(metric, **labels))

    until = garden.cluster.until
    until(lambda: value("model_garden_job_phase", name="fails", phase="Failed", reason="TrainerError") == ["1"])
    until(lambda: value("model_garden_job_phase", name="paused", phase="Suspended") == ["1"])
    until(lambda: value("model_garden_job_stage", name="trains", stage="training") == ["1"])
    until(lambda: value("model_garden_job_attempts", name="works", reason="Completed") == ["1"])
    until(lambda: value("model_garden_job_attempts", name="trains", reason="Running") == ["1"])
    until(lambda: reaches(1, "model_garden_job_attempts", name="retries", reason="Error"))
    until(lambda: value("model_garden_jobs", phase="Suspended") == ["1"])
    usage = garden.status("trains")["usage"]
    assert usage["gpuHours"] > 0
    until(lambda: reaches(3600 * usage["gpuHours"], "model_garden_job_gpu_seconds_total", name="trains"))
    until(lambda: reaches(usage["cost"], "model_garden_job_cost_total", name="trains", currency="USD"))


def test_the_alert_of_a_failed_job_fires_and_no_other(watched: Prometheus, garden: OperatorHarness) -> None:
    def firing() -> list[tuple[str, str | None]]:
        alerts = watched.get("alerts")["alerts"]
        found = [one["labels"] for one in alerts if one["state"] == "firing"]
        of_here = (None, "trains", "fails", "works", "paused")  # not `retries`, nor what other tests run
        return [(one["alertname"], one.get("name")) for one in found if one.get("name") in of_here]

    assert garden.cluster.until(firing) == [("ModelGardenJobFailed", "fails")]


def test_prometheus_lints_the_page(watched: Prometheus, garden: OperatorHarness) -> None:
    """``promtool check metrics`` finds nothing in the project's own metrics."""
    answer = promtool("check", "metrics", content=garden.metrics())
    found = [line for line in (answer.stdout + answer.stderr).splitlines() if "model_garden" in line]
    assert found == []
    assert answer.returncode in (0, 3), answer.stderr  # 3: it has a wish for a metric of the Python process


def test_each_log_line_about_a_job_has_its_namespace_and_name(watched: Prometheus, garden: OperatorHarness) -> None:
    lines = [json.loads(line) for line in garden.log.read_text().splitlines()]
    [end] = [line for line in lines if "-> Succeeded" in line["message"] and line.get("job") == "works"]
    assert (end["namespace"], end["level"]) == ("watched", "INFO")
    assert all(line.keys() >= {"time", "level", "logger", "message"} for line in lines)
    assert "job" not in lines[0], "the start of the operator is about no job"
