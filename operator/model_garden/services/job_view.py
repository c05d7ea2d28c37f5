"""Reads facts from the plain resource of a TrainingJob."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

FINAL = ("Succeeded", "Failed", "Cancelled")


def has_ended(job: Object) -> bool:
    """Whether the job is in a final phase."""
    return phase(job) in FINAL


def phase(job: Object) -> str:
    """The phase; ``Pending`` until the operator writes a status."""
    return str((job.get("status") or {}).get("phase") or "Pending")


def explanation(job: Object) -> str:
    """Why the job is in its phase: the failure, else the message of its ``Running`` condition."""
    status = job.get("status") or {}
    if failure := status.get("failure"):
        return f"{failure['reason']}: {failure['message']}"
    if "phase" not in status:
        return "the operator has not seen this job yet"
    conditions = status.get("conditions") or ()
    return next((condition["message"] for condition in conditions if condition["type"] == "Running"), "")


def explained_phase(job: Object) -> str:
    """``Pending: waiting for a GPU``."""
    return f"{phase(job)}: {explanation(job)}".removesuffix(": ")


def queue_words(job: Object) -> str:
    """``research, place 2 in line``, or where Kueue admitted the job; empty for a job that Kueue does not manage."""
    queue = (job.get("status") or {}).get("queue")
    if not queue:
        return ""
    if position := queue.get("position"):
        return f"{queue['name']}, place {position} in line"
    admitted = queue.get("clusterQueue")
    return f"{queue['name']}, admitted by ClusterQueue {admitted}" if admitted else str(queue["name"])


def log_tail(job: Object) -> list[str]:
    """The last lines of a failed pod's log, without those that repeat the message of the failure."""
    failure = (job.get("status") or {}).get("failure") or {}
    message = str(failure.get("message") or "").splitlines()
    return [line for line in failure.get("logTail") or () if not any(part in line for part in message if part)]


def losses(job: Object) -> list[float]:
    """The losses of ``status.history``, in order."""
    history = (job.get("status") or {}).get("history") or ()
    return [point["loss"] for point in history if point.get("loss") is not None]


def is_vision(job: Object) -> bool:
    """Whether the job trains a vision-language model, by ``isVision`` or ``modelType``."""
    spec = job["spec"]
    return bool(spec.get("isVision") or spec.get("modelType") == "vision")
