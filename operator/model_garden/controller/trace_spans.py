"""PURE: the life of a TrainingJob that has ended, as the spans of one trace, from the times in its status.

Attributes are named as OpenTelemetry's semantic conventions have it where they have a name; others begin with
``model_garden.``. Source: https://opentelemetry.io/docs/specs/semconv/resource/k8s/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
Value = str | int | float


@dataclass(frozen=True)
class Span:
    """One stretch of time, from ``start`` to ``end``, both as ``metav1.Time``; ``error`` is a sentence."""

    name: str
    start: str
    end: str
    attributes: dict[str, Value]
    error: str | None = None
    children: tuple[Span, ...] = ()


def spans_of(job: Object) -> Span:
    """The whole life: preparing, queued, starting, and each attempt with the stages of its trainer."""
    metadata, status = job["metadata"], job["status"]
    created, ended = metadata["creationTimestamp"], status["completionTime"]
    failure = status.get("failure") or {}
    usage = status.get("usage") or {}
    attributes = _known(
        {
            "k8s.namespace.name": metadata["namespace"],
            "model_garden.training_job.name": metadata["name"],
            "model_garden.training_job.uid": metadata["uid"],
            "model_garden.phase": status["phase"],
            "model_garden.base_model": (job.get("spec") or {}).get("baseModel"),
            "model_garden.gpu_hours": usage.get("gpuHours"),
            "error.type": failure.get("reason"),
        }
    )
    children = (*_before(created, ended, status), *_attempts(ended, status))
    return Span("TrainingJob", created, max(created, ended), attributes, failure.get("message"), children)


def _before(created: str, ended: str, status: Object) -> Iterator[Span]:
    """What came before the first attempt that the status lists."""
    since = created
    if prepared := status.get("preflightCompletionTime"):
        yield Span("preparing", since, prepared, {})
        since = prepared
    first = next((one["startTime"] for one in status.get("attempts") or () if "startTime" in one), ended)
    queue = status.get("queue") or {}
    admitted = queue.get("admissionTime")
    if admitted and since <= admitted <= first:
        yield Span("queued", since, admitted, _known({"model_garden.queue": queue.get("name")}))
        since = admitted
    if since < first and status.get("jobName"):
        yield Span("starting", since, first, {})


def _attempts(ended: str, status: Object) -> Iterator[Span]:
    for attempt in status.get("attempts") or ():
        if start := attempt.get("startTime"):
            end = max(start, attempt.get("endTime") or ended)
            reason = attempt.get("reason")
            attributes = _known(
                {
                    "k8s.pod.name": attempt["pod"],
                    "k8s.node.name": attempt.get("node"),
                    "process.exit.code": attempt.get("exitCode"),
                    "model_garden.reason": reason,
                    "model_garden.from_step": attempt.get("fromStep"),
                    "model_garden.to_step": attempt.get("toStep"),
                    "model_garden.gpu_seconds": attempt.get("gpuSeconds"),
                }
            )
            error = attempt.get("message") or reason if reason in ("Error", "Evicted") else None
            yield Span("attempt", start, end, attributes, error, tuple(_stages(attempt["pod"], end, status)))


def _stages(pod: str, end: str, status: Object) -> Iterator[Span]:
    """The stages of a pod. One that was entered again, such as evaluating, is one span that holds all its times."""
    for stage in status.get("stages") or ():
        if stage["pod"] == pod:
            began = stage.get("firstEnteredTime") or stage["enteredTime"]
            left = max(began, stage.get("leftTime") or end)
            seconds = {"model_garden.stage.seconds": stage["seconds"]} if stage.get("seconds") else {}
            yield Span(stage["stage"], began, left, seconds)


def _known(attributes: dict[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in attributes.items() if value is not None}
