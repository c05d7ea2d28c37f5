"""PURE: the model that a job made: where it is, how its answers changed, and the text that uses it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from model_garden.contract.progress import SampleAnswer, SampleEvent, parse_event
from model_garden.services import format
from model_garden.serving import uses

Object = dict[str, Any]


def output(job: Object) -> dict[str, Any] | None:
    """The model and its scores; None before there is one."""
    made = (job.get("status") or {}).get("output")
    if not made:
        return None
    scored = made.get("samples") or {}
    return {
        "path": made["path"],
        "size": format.size(made.get("sizeBytes")),
        "verified": made.get("verified"),
        "hub": made.get("hubUrl"),
        "trackers": [_place(one) for one in made.get("trackers") or ()],
        "steps": made.get("trainedSteps"),
        "loss": format.loss(made.get("finalLoss")),
        "weights": format.weights(made),
        "usage": uses(job["metadata"]["name"], job["spec"] | (job["status"].get("effectiveSpec") or {}), made),
        "samples": [
            (title, scored[key]["rows"], _scores(scored[key]))
            for key, title in (("validation", "validation"), ("train", "training"))
            if scored.get(key)
        ],
    }


def _place(tracker: Mapping[str, Any]) -> dict[str, Any]:
    """Where a tracker shows the run; ``link`` is None for what is no page."""
    place = tracker.get("url") or tracker.get("path") or ""
    link = place if place.startswith(("https://", "http://")) else None
    return {"name": tracker["name"], "place": place, "link": link}


def _scores(scored: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """What is scored, and the score before and after training, from 0 to 1."""
    return [
        ("Exact answers", scored["exactMatchBefore"], scored["exactMatchAfter"]),
        ("Similarity", scored["similarityBefore"], scored["similarityAfter"]),
    ]


def answers(lines: Iterable[str]) -> list[SampleAnswer]:
    """The rows that a trainer's log says were answered before and after training; validation rows come first."""
    events = (parse_event(line) for line in lines)
    found = [event.sample for event in events if isinstance(event, SampleEvent)]
    return sorted(found, key=lambda one: one.split != "validation")
