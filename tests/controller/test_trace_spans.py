"""The spans of a job's life, from its status."""

from typing import Any

import pytest

from model_garden.controller.trace_spans import Span, spans_of
from tests.controller import builders as b


def job(**status: Any) -> dict[str, Any]:
    found = {"phase": "Succeeded", "completionTime": b.time(1000), "jobName": "receipts-train", **status}
    return b.resource() | {"status": found}


def outline(span: Span, depth: int = 0) -> list[tuple[str, str, str]]:
    """Name, start and end of each span, with its depth as dots."""
    start, end = (f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in (span.start, span.end))
    below = [line for child in span.children for line in outline(child, depth + 1)]
    return [("." * depth + span.name, start, end), *below]


def attempt(pod: str, start: int, end: int | None = None, **more: Any) -> dict[str, Any]:
    return {"pod": pod, "startTime": b.time(start), **({"endTime": b.time(end)} if end else {}), **more}


def test_a_job_that_was_queued_and_retried() -> None:
    stages = [
        {"pod": "a", "stage": "model", "enteredTime": b.time(110), "leftTime": b.time(150), "seconds": 40},
        {"pod": "a", "stage": "training", "enteredTime": b.time(150), "leftTime": b.time(290), "seconds": 140},
        {"pod": "a", "stage": "saving", "enteredTime": b.time(290)},
        {"pod": "b", "stage": "evaluating", "firstEnteredTime": b.time(500), "enteredTime": b.time(700)}
        | {"leftTime": b.time(720), "seconds": 40},
        {"pod": "b", "stage": "training", "firstEnteredTime": b.time(410), "enteredTime": b.time(720)}
        | {"leftTime": b.time(900), "seconds": 450},
        {"pod": "b", "stage": "verifying", "enteredTime": b.time(900)},
    ]
    found = spans_of(
        job(
            preflightCompletionTime=b.time(30),
            queue={"name": "gpus", "admissionTime": b.time(80)},
            attempts=[
                attempt("a", 100, 300, reason="Error", message="it broke"),
                attempt("b", 400, reason="Completed"),
            ],
            stages=stages,
        )
    )
    assert outline(found) == [
        ("TrainingJob", b.time(), b.time(1000)),
        (".preparing", b.time(), b.time(30)),
        (".queued", b.time(30), b.time(80)),
        (".starting", b.time(80), b.time(100)),
        (".attempt", b.time(100), b.time(300)),
        ("..model", b.time(110), b.time(150)),
        ("..training", b.time(150), b.time(290)),
        ("..saving", b.time(290), b.time(300)),
        (".attempt", b.time(400), b.time(1000)),
        ("..evaluating", b.time(500), b.time(720)),
        ("..training", b.time(410), b.time(900)),
        ("..verifying", b.time(900), b.time(1000)),
    ]
    first, second = found.children[3:]
    assert (first.error, second.error) == ("it broke", None)
    assert second.children[1].attributes == {"model_garden.stage.seconds": 450}


def test_a_job_whose_spec_was_refused_is_one_span() -> None:
    failure = {"reason": "InvalidSpec", "message": "spec.baseModel: required"}
    refused = job(phase="Failed", failure=failure)
    del refused["status"]["jobName"]
    found = spans_of(refused)
    assert (found.error, found.attributes["error.type"], found.children) == (failure["message"], "InvalidSpec", ())


def test_a_second_admission_by_kueue_is_not_the_first_wait() -> None:
    found = spans_of(job(queue={"name": "gpus", "admissionTime": b.time(500)}, attempts=[attempt("a", 20)]))
    assert [child.name for child in found.children] == ["starting", "attempt"]


def test_a_job_that_failed_in_its_preflight_was_preparing_until_its_end() -> None:
    found = spans_of(job(phase="Failed", jobName="receipts-preflight"))
    assert outline(found)[1:] == [(".preparing", b.time(), b.time(1000))]


@pytest.mark.parametrize("far", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "1000-01-01T00:00:00Z"])
def test_no_time_is_outside_the_life_of_the_job(far: str) -> None:
    stages = [
        {"pod": "a", "stage": "model", "enteredTime": far, "leftTime": b.time(150)},
        {"pod": "a", "stage": "training", "firstEnteredTime": far, "enteredTime": b.time(150), "leftTime": far},
        {"pod": "a", "stage": "saving", "enteredTime": b.time(290)},
    ]
    status = {"preflightCompletionTime": far, "queue": {"admissionTime": far}, "stages": stages}
    found = spans_of(job(attempts=[attempt("a", 100) | {"endTime": far}, {"pod": "b", "startTime": far}], **status))
    for _, start, end in outline(found):
        assert b.time() <= start <= end <= b.time(1000)
