"""What the pages show of a job, from statuses as an operator writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from model_garden.contract.status import OutputStatus, Samples, SampleScores
from model_garden.web import views

NOW = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)


def job(**status: Any) -> dict[str, Any]:
    metadata = {"name": "receipts", "namespace": "default", "creationTimestamp": "2026-01-01T12:00:00Z"}
    spec = {"baseModel": "a/b", "datasetPath": "./data/rows.jsonl", "modelType": "vision"}
    return {"metadata": metadata, "spec": spec, "status": status}


def running(message: str) -> dict[str, Any]:
    return {"phase": "Running", "conditions": [{"type": "Running", "status": "True", "message": message}]}


def stage_states(found: dict[str, Any]) -> dict[str, str]:
    return {one.title: one.state for one in views.stages(found, NOW)}


def test_a_job_that_no_operator_has_seen_has_a_page() -> None:
    found = views.details(job(), NOW)
    assert (found["phase"], found["percent"], found["output"], found["failure"]) == ("Pending", 0.0, None, None)


def test_stages_follow_what_the_trainer_reports() -> None:
    started = {"startTime": "2026-01-01T12:00:10Z", "preflightCompletionTime": "2026-01-01T12:00:05Z"}
    states = stage_states(job(**running("model: 1 of 2 GiB"), **started))
    assert (states["Preflight"], states["Loading model"], states["Training"]) == ("done", "current", "next")
    assert stage_states(job(**running("stopping early and saving; saving"), **started))["Saving"] == "current"
    assert set(stage_states(job(phase="Succeeded", **started)).values()) == {"done"}
    failed = job(phase="Failed", progress={"step": 3, "totalSteps": 9}, **started)
    assert stage_states(failed)["Training"] == "failed"


def test_a_preflight_that_found_broken_rows_is_the_stage_that_failed() -> None:
    assert stage_states(job(phase="Failed", failure={"reason": "InvalidDataset", "message": "row 7"})) == {
        "Created": "done",
        "Preflight": "failed",
        **dict.fromkeys(
            ["Waiting for a node", "Reading data", "Loading model", "Training", "Saving", "Exporting", "Verifying"],
            "next",
        ),
    }


def test_answers_to_validation_rows_come_first() -> None:
    scores = SampleScores(rows=4, exact_match_before=0, exact_match_after=1, similarity_before=0.5, similarity_after=1)
    made = OutputStatus(path="models/receipts", samples=Samples(train=scores, validation=scores)).to_dict()
    found = views.details(job(phase="Succeeded", output=made), NOW)["output"]
    assert [(title, rows) for title, rows, _ in found["samples"]] == [("validation", 4), ("training", 4)]
    assert views.details(job(phase="Succeeded", output={"path": "m"}), NOW)["output"]["samples"] == []


def test_a_curve_stays_inside_its_box() -> None:
    points = [tuple(map(float, point.split(","))) for point in views.spark_points([3.0, 1.0, 2.0]).split()]
    assert all(0 <= x <= views.SPARK_WIDTH and 0 <= y <= views.SPARK_HEIGHT for x, y in points)
    assert (views.spark_points([1.0]), views.spark_points([2.0, 2.0]) != "") == ("", True)
