"""PURE: the life of a TrainingJob that has ended, as the spans of one trace, from the times in its status.

Attributes are named as OpenTelemetry's semantic conventions have it where they have a name; others begin with
``model_garden.``. Source: https://opentelemetry.io/docs/specs/semconv/resource/k8s/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from model_garden.contract import names

Object = dict[str, Any]
Value = str | int | float


@dataclass(frozen=True)
class Span:
    """One stretch of time, from ``start`` to ``end``; ``error`` is a sentence."""

    name: str
    start: datetime
    end: datetime
    attributes: dict[str, Value]
    error: str | None = None
    children: tuple[Span, ...] = ()


@dataclass(frozen=True)
class _Life:
    """From the creation of a job to its end."""

    start: datetime
    end: datetime

    def moment(self, text: str) -> datetime:
        """A time of the status, moved into the life of the job.

        The clock of a node may be wrong, and a trainer may say any year, also one that the 64 bits of a span's time
        cannot hold: then the spans of every job that were to be sent with it would be lost.
        """
        return min(max(datetime.fromisoformat(text), self.start), self.end)


def spans_of(job: Object) -> Span:
    """The whole life: preparing, queued, starting, and each attempt with the stages of its trainer.

    No time is before the creation of the job or after its end.
    """
    metadata, status = job["metadata"], job["status"]
    created = datetime.fromisoformat(metadata["creationTimestamp"])
    life = _Life(created, max(created, datetime.fromisoformat(status["completionTime"])))
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
    children = (*_before(life, metadata["name"], status), *_attempts(life, status))
    return Span("TrainingJob", life.start, life.end, attributes, failure.get("message"), children)


def _before(life: _Life, name: str, status: Object) -> Iterator[Span]:
    """What came before the first attempt that the status lists."""
    since = life.start
    if prepared := status.get("preflightCompletionTime"):
        yield Span("preparing", since, life.moment(prepared), {})
        since = life.moment(prepared)
    elif status.get("jobName") == names.job_name(name, "preflight"):
        yield Span("preparing", since, life.end, {})
        return
    starts = (one["startTime"] for one in status.get("attempts") or () if "startTime" in one)
    first = next(map(life.moment, starts), life.end)
    queue = status.get("queue") or {}
    if queue.get("admissionTime") and since <= (admitted := life.moment(queue["admissionTime"])) <= first:
        yield Span("queued", since, admitted, _known({"model_garden.queue": queue.get("name")}))
        since = admitted
    if since < first and status.get("jobName"):
        yield Span("starting", since, first, {})


def _attempts(life: _Life, status: Object) -> Iterator[Span]:
    for attempt in status.get("attempts") or ():
        if attempt.get("startTime"):
            start = life.moment(attempt["startTime"])
            end = max(start, life.moment(attempt["endTime"])) if attempt.get("endTime") else life.end
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
            yield Span("attempt", start, end, attributes, error, tuple(_stages(life, attempt["pod"], end, status)))


def _stages(life: _Life, pod: str, end: datetime, status: Object) -> Iterator[Span]:
    """The stages of a pod. One that was entered again, such as evaluating, is one span that holds all its times."""
    for stage in status.get("stages") or ():
        if stage["pod"] == pod:
            began = life.moment(stage.get("firstEnteredTime") or stage["enteredTime"])
            left = max(began, life.moment(stage["leftTime"]) if stage.get("leftTime") else end)
            seconds = {"model_garden.stage.seconds": stage["seconds"]} if stage.get("seconds") else {}
            yield Span(stage["stage"], began, left, seconds)


def _known(attributes: dict[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in attributes.items() if value is not None}
