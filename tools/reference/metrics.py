"""docs/reference/metrics.md: what the operator's ``/metrics`` serves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from model_garden.controller.metrics import Metrics
from tools.reference.markdown import page, table

INTRODUCTION = """
The operator serves these on `/metrics` for Prometheus, beside the usual metrics of a Python process. Figures of
training are there while a job runs; its phase, attempts and GPU time for as long as the TrainingJob exists. Its
complete curve is in `metrics.jsonl` of the [output folder](output-folder.md), and its latest figures are in
[`status.progress`](status.md). [observability.md](../observability.md) has the alerts on them.
"""
RUNNING_JOB: dict[str, Any] = {
    "metadata": {"namespace": "default", "name": "example"},
    "status": {
        "phase": "Running",
        "completionTime": "2026-01-01T00:00:00Z",
        "attempts": [{"pod": "example-train-x"}],
        "stages": [{"pod": "example-train-x", "stage": "training", "enteredTime": "2026-01-01T00:00:00Z"}],
        "usage": {"gpuHours": 1.0, "trainingGpuHours": 0.9, "cost": 2.5, "currency": "USD"},
        "progress": {"step": 1, "totalSteps": 2, "loss": 1.0, "estimatedCompletionTime": "2026-01-01T00:00:00Z"},
    },
}


def metrics_reference() -> str:
    """The page as Markdown."""
    text = table(["metric", "type", "labels", "meaning"], _rows())
    return page("Metrics", "operator/model_garden/controller/metrics.py", INTRODUCTION, text)


def _rows() -> Iterator[tuple[str, ...]]:
    """One row for each metric, read from a registry that has counted one request and sees one running job."""
    metrics = Metrics()
    metrics.count_request("POST", "jobs", 201)
    metrics.show([RUNNING_JOB], [])
    for family in metrics.registry.collect():
        if family.name.startswith("model_garden_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = ", ".join(f"`{label}`" for label in family.samples[0].labels if label != "le")
            yield f"`{name}`", family.type, labels, family.documentation
