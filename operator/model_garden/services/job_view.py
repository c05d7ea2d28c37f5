"""What a TrainingJob's status says, read from the plain resource, for ``list``, ``get`` and ``watch``."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

FINAL = ("Succeeded", "Failed", "Cancelled")


def phase(job: Object) -> str:
    """The job's phase; ``Pending`` until the operator has seen it."""
    return str((job.get("status") or {}).get("phase") or "Pending")


def explanation(job: Object) -> str:
    """Why the job is where it is, in the operator's words: its ``Running`` condition carries them, true or false."""
    status = job.get("status") or {}
    if failure := status.get("failure"):
        return f"{failure['reason']}: {failure['message']}"
    if not status:
        return "the operator has not seen it yet"
    said = (condition["message"] for condition in status.get("conditions") or () if condition["type"] == "Running")
    return next(said, "")


def log_tail(job: Object) -> list[str]:
    """The last lines of a failed pod's log, but for those that only repeat the failure's message."""
    failure = (job.get("status") or {}).get("failure") or {}
    said = str(failure.get("message") or "").splitlines()
    return [line for line in failure.get("logTail") or () if not any(part in line for part in said if part)]


def losses(job: Object) -> list[float]:
    """The losses of ``status.history``, the first one first."""
    history = (job.get("status") or {}).get("history") or ()
    return [point["loss"] for point in history if point.get("loss") is not None]


def is_vision(job: Object) -> bool:
    """Whether the job trains a vision-language model, by either of its two spellings."""
    spec = job["spec"]
    return bool(spec.get("isVision") or spec.get("modelType") == "vision")
