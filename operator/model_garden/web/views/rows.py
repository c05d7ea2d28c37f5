"""PURE: a job as a line of the list, and what its page has in common with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from model_garden.services import format
from model_garden.services.job_view import explanation, has_ended, is_vision, losses, phase

Object = dict[str, Any]
TONES = {"Succeeded": "good", "Failed": "bad", "Cancelled": "off", "Suspended": "warn", "Running": "live"}
"""The color of each phase; all others wait."""
SPARK_WIDTH, SPARK_HEIGHT = 120, 28


def row(job: Object, now: datetime) -> dict[str, Any]:
    """One line of the table of jobs."""
    status = job.get("status") or {}
    progress = status.get("progress") or {}
    left = None if has_ended(job) else format.seconds_left(progress, now)
    return {
        "name": job["metadata"]["name"],
        "phase": phase(job),
        "tone": TONES.get(phase(job), "wait"),
        "vision": is_vision(job),
        "model": job["spec"]["baseModel"],
        "percent": percent(progress),
        "steps": format.steps(progress),
        "loss": format.loss(progress.get("loss")),
        "spark": spark_points(losses(job)),
        "left": format.duration(left) if left and phase(job) == "Running" else "",
        "age": format.age(job["metadata"]["creationTimestamp"], now),
        "created": job["metadata"]["creationTimestamp"],
        "note": "" if phase(job) in ("Running", "Succeeded") else explanation(job),
        "warnings": sum(one["count"] for one in status.get("warnings") or ()),
    }


def percent(progress: Mapping[str, Any]) -> float:
    """The share of steps that are done, 0 to 100."""
    total = progress.get("totalSteps")
    return round(100 * progress["step"] / total, 1) if total else 0.0


def spark_points(values: Sequence[float]) -> str:
    """A curve as the points of an SVG polyline in a box of ``SPARK_WIDTH`` by ``SPARK_HEIGHT``; '' below two values."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    wide, tall = SPARK_WIDTH - 4, SPARK_HEIGHT - 6
    return " ".join(
        f"{2 + wide * number / (len(values) - 1):.1f},{3 + tall * (high - value) / span:.1f}"
        for number, value in enumerate(values)
    )


def matches(job: Object, search: str) -> bool:
    """Whether the name, model or data set of a job holds a search text."""
    text = " ".join((job["metadata"]["name"], job["spec"]["baseModel"], job["spec"]["datasetPath"])).lower()
    return search.lower() in text


def now() -> datetime:
    """The time of a rendering."""
    return datetime.now(UTC)
