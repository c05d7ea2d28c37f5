"""PURE: the scores of a job's answers to held-out rows."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

TITLES = {
    "exact_match": "Exact match",
    "similarity": "Similarity",
    "json_fields_f1": "JSON fields: F1",
    "json_fields_precision": "JSON fields: precision",
    "json_fields_recall": "JSON fields: recall",
    "json_fields_invalid": "Answers that are not JSON",
    "anls": "ANLS",
    "iou": "Mean IoU",
    "iou_accuracy_at_0.5": "Boxes with IoU of 0.5 or more",
    "iou_without_box": "Answers without a box",
}


def evaluation(job: Object) -> dict[str, Any] | None:
    """The scores, those of single fields apart; None before there are any."""
    found = (job.get("status") or {}).get("evaluation")
    if not found:
        return None
    return {
        "rows": found.get("rows"),
        "total_rows": found.get("totalRows"),
        "dataset": found.get("datasetPath"),
        "path": found.get("path"),
        "time": found.get("completionTime"),
        "compared": any(one.get("baseValue") is not None for one in found["scores"]),
        "scores": [
            _row(one, TITLES.get(one["metric"], one["metric"]))
            for one in found["scores"]
            if not one.get("field") and not one.get("task")
        ],
        "tasks": [_task(one) for one in found["scores"] if one.get("task")],
        "fields": [_row(one, one["field"]) for one in found["scores"] if one.get("field")],
    }


def curve_title(name: str) -> str:
    """The title of a curve: that of a score of held-out rows, or the name of a figure of the training method."""
    return TITLES.get(name.removeprefix("eval_"), name)


def _row(one: Object, title: str) -> dict[str, str]:
    base = one.get("baseValue")
    return {"title": title, "base": "" if base is None else _percent(base), "value": _percent(one["value"])}


def _task(one: Object) -> dict[str, str]:
    """A score of a task, which may be no share of 1, such as a perplexity."""
    base, error = one.get("baseValue"), one.get("standardError")
    value = f"{one['value']:.4f}" + ("" if error is None else f" ± {error:.4f}")
    return {"title": f"{one['task']}: {one['metric']}", "base": "" if base is None else f"{base:.4f}", "value": value}


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%"
