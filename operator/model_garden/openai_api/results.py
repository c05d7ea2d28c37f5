"""The result file of a job: the figures of its steps as CSV, as OpenAI's. Pure functions."""

from __future__ import annotations

import csv
import io
from typing import Any

from model_garden.openai_api.documents import is_name, result_id, seconds

Object = dict[str, Any]

_COLUMNS = {"step": "step", "train_loss": "loss", "valid_loss": "evalLoss", "learning_rate": "learningRate"}


def is_result(identifier: str) -> str | None:
    """The job whose result file has this id; None if it is the id of another file."""
    name = identifier.removeprefix(result_id(""))
    return name if name != identifier and is_name(name) else None


def result_content(job: Object) -> str:
    """The figures, one line for each step that the status has kept."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for point in (job.get("status") or {}).get("history") or ():
        rows.writerow([point.get(figure) for figure in _COLUMNS.values()])
    return text.getvalue()


def result_document(job: Object) -> Object:
    """The result file as OpenAI's ``file``."""
    status = job.get("status") or {}
    return {
        "id": result_id(job["metadata"]["name"]),
        "object": "file",
        "bytes": len(result_content(job).encode()),
        "created_at": seconds(status.get("completionTime") or job["metadata"]["creationTimestamp"]),
        "filename": "step_metrics.csv",
        "purpose": "fine-tune-results",
        "status": "processed",
    }
