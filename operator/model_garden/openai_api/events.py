"""What happened to a TrainingJob as OpenAI's events and checkpoints, from its status alone. Pure functions.

An event keeps its id, so that a client that asks again and again sees each once. The status has no time for a step:
it is estimated from when the step's attempt began and ended.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

from model_garden.openai_api.documents import effective, job_id, job_status, seconds
from model_garden.services.job_view import has_ended, phase

Object = dict[str, Any]


def events(job: Object) -> list[Object]:
    """The events of ``job``, the latest first."""
    found = [*_before_training(job), *_training(job)]
    found += _end(job, max(event["created_at"] for event in found))
    order = {event["id"]: place for place, event in enumerate(found)}
    return sorted(found, key=lambda event: (event["created_at"], order[event["id"]]), reverse=True)


def checkpoints(job: Object) -> list[Object]:
    """The checkpoints that are kept, the latest first."""
    status, spec = job.get("status") or {}, effective(job)
    kept = _checkpoint_steps(status)[-spec.hyperparameters.save_total_limit :]
    return [_checkpoint(job, step, f"{spec.output_dir}/checkpoints/checkpoint-{step}") for step in reversed(kept)]


def _checkpoint(job: Object, step: int, folder: str) -> Object:
    status = job.get("status") or {}
    return {
        "id": f"ftckpt-{_key(job)}-{step}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": _time_of_step(status, step),
        "fine_tuned_model_checkpoint": folder,
        "fine_tuning_job_id": job_id(job["metadata"]["name"]),
        "metrics": next((_metrics(point) for point in _history(status) if point["step"] == step), {"step": step}),
        "step_number": step,
    }


def _checkpoint_steps(status: Object) -> list[int]:
    return status.get("checkpointSteps") or []


def _before_training(job: Object) -> Iterator[Object]:
    status, created = job.get("status") or {}, seconds(job["metadata"]["creationTimestamp"])
    yield _event(job, "created", created, f"Created fine-tuning job: {job_id(job['metadata']['name'])}")
    if prepared := seconds(status.get("preflightCompletionTime")):
        rows = (status.get("dataset") or {}).get("rows")
        found = f" ({rows} rows)" if rows else ""
        yield _event(job, "validated", prepared, f"Files validated{found}, moving job to queued state")


def _training(job: Object) -> Iterator[Object]:
    status = job.get("status") or {}
    attempts = status.get("attempts") or ()
    for attempt in attempts:
        if start := seconds(attempt.get("startTime")):
            first = attempt.get("startTime") == status.get("startTime")
            words = "Fine-tuning job started" if first else f"Fine-tuning continues in the pod {attempt['pod']}"
            yield _event(job, f"{attempt['pod']}-start", start, words)
    total = (status.get("progress") or {}).get("totalSteps")
    for point in _history(status):
        yield from _step(job, point, _time_of_step(status, point["step"]), total)
    for step in _checkpoint_steps(status):
        yield _event(job, f"checkpoint-{step}", _time_of_step(status, step), f"Checkpoint created at step {step}")
    for warning in status.get("warnings") or ():
        # The status counts messages that differ only in their numbers as one, and keeps the last.
        kind = hashlib.sha256(re.sub(r"\d+", "", warning["message"]).encode()).hexdigest()[:8]
        yield _event(job, f"warning-{kind}", seconds(warning["lastTime"]), warning["message"], "warn")
    for attempt in attempts:
        pod, reason, end = attempt["pod"], attempt.get("reason"), seconds(attempt.get("endTime"))
        if end and reason not in (None, "Completed"):
            message = attempt.get("message") or f"exit code {attempt.get('exitCode')}"
            level = "info" if reason == "Stopped" else "warn"
            yield _event(job, f"{pod}-end", end, f"The pod {pod} ended ({reason}): {message}", level)


def _step(job: Object, point: Object, time: int, total: int | None) -> Iterator[Object]:
    """One event for a step's training loss, and one for its evaluation, which comes later."""
    step = point["step"]
    name = f"Step {step}/{total}" if total else f"Step {step}"
    for key, figure, words in (("step", "loss", "training loss"), ("eval", "evalLoss", "validation loss")):
        if point.get(figure) is not None:
            message = f"{name}: {words}={point[figure]:.4f}"
            yield _event(job, f"{key}-{step}", time, message) | {"type": "metrics", "data": _metrics(point)}


def _end(job: Object, latest: int) -> Iterator[Object]:
    """The last events, never before the ``latest`` other one: a Job and its pod may end in either order."""
    status = job.get("status") or {}
    if not has_ended(job):
        return
    end = max(latest, seconds(status.get("completionTime")) or 0)
    match phase(job):
        case "Succeeded":
            path = (status.get("output") or {}).get("path")
            yield _event(job, "model", end, f"New fine-tuned model created: {path}")
            yield _event(job, "succeeded", end, "The job has successfully completed")
        case "Failed":
            failure = status.get("failure") or {}
            message = f"The job failed: {failure.get('reason')}: {failure.get('message')}"
            yield _event(job, "failed", end, message, "error")
        case _:
            yield _event(job, job_status(job), end, "The job was cancelled")


def _event(job: Object, key: str, time: int | None, message: str, level: str = "info") -> Object:
    return {
        "id": f"ftevent-{_key(job)}-{key}",
        "object": "fine_tuning.job.event",
        "created_at": time,
        "level": level,
        "message": message,
        "type": "message",
        "data": None,
    }


def _key(job: Object) -> str:
    """What tells the job from a later one of the same name."""
    return str(job["metadata"]["uid"])[:8]


def _history(status: Object) -> list[Object]:
    return status.get("history") or []


def _metrics(point: Object) -> Object:
    """The figures of a step, as OpenAI calls them."""
    names = {"step": "step", "loss": "train_loss", "evalLoss": "valid_loss", "learningRate": "learning_rate"}
    return {name: point[figure] for figure, name in names.items() if point.get(figure) is not None}


def _time_of_step(status: Object, step: int) -> int:
    """When about a step ended: it is as far between its attempt's begin and end as between its first and last step."""
    progress = status.get("progress") or {}
    started = seconds(status.get("startTime")) or 0
    for attempt in reversed(status.get("attempts") or ()):
        first, last = attempt.get("fromStep"), attempt.get("toStep")
        if first is None or last is None or step <= first:
            continue
        begin = seconds(attempt.get("startTime")) or started
        end = seconds(attempt.get("endTime") or progress.get("lastReportTime")) or begin
        share = min(1.0, (step - first) / (last - first)) if last > first else 1.0
        return round(begin + share * (end - begin))
    return started
