"""What the pages show of a job, from statuses as an operator writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from model_garden.contract.status import OutputStatus, Samples, SampleScores
from model_garden.services.format import duration
from model_garden.web.views import figures, rows
from model_garden.web.views.job import details, plain_text, stop_choices
from model_garden.web.views.stages import StageView, stages

NOW = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)


def job(**status: Any) -> dict[str, Any]:
    metadata = {"name": "receipts", "namespace": "default", "creationTimestamp": "2026-01-01T12:00:00Z"}
    spec = {"baseModel": "a/b", "datasetPath": "./data/rows.jsonl", "modelType": "vision"}
    return {"metadata": metadata, "spec": spec, "status": status}


def running(message: str) -> dict[str, Any]:
    return {"phase": "Running", "conditions": [{"type": "Running", "status": "True", "message": message}]}


def flat(found: list[StageView]) -> list[StageView]:
    return [one for stage in found for one in (stage, *flat(list(stage.within)))]


def states(found: dict[str, Any]) -> dict[str, str]:
    return {one.title: one.state for one in flat(stages(found, NOW))}


def seen(pod: str, stage: str, second: int, spent: float = 0, detail: str | None = None) -> dict[str, Any]:
    entered = f"2026-01-01T12:00:{second:02}Z"
    return {"pod": pod, "stage": stage, "enteredTime": entered, "seconds": spent, "detail": detail}


PREPARED = {"startTime": "2026-01-01T12:00:10Z", "preflightCompletionTime": "2026-01-01T12:00:05Z"}
PREFLIGHT = [seen("p", "model", 1, 3, "2 of 2 GiB"), seen("p", "dataset", 4)]
ATTEMPT = {"pod": "t", "startTime": "2026-01-01T12:00:10Z"}


def test_a_job_that_no_operator_has_seen_has_a_page() -> None:
    found = details(job(), NOW)
    assert (found["phase"], found["percent"], found["output"], found["failure"]) == ("Pending", 0.0, None, None)


def test_a_job_of_kueue_shows_its_queue_and_its_place() -> None:
    queue = {"name": "research", "workload": "w"}
    assert ("Queue", "research, place 2 in line") in details(job(queue=queue | {"position": 2}), NOW)["facts"]
    admitted = details(job(queue=queue | {"clusterQueue": "gpus"}), NOW)["facts"]
    assert ("Queue", "research, admitted by ClusterQueue gpus") in admitted
    assert "Queue" not in dict(details(job(), NOW)["facts"])


def test_each_stage_has_its_time() -> None:
    reported = [*PREFLIGHT, seen("t", "model", 10, 4), seen("t", "evaluating", 20, 3), seen("t", "training", 23, 6)]
    found = job(**running("training"), **PREPARED, attempts=[ATTEMPT], stages=reported)
    assert [(one.title, one.state, one.duration) for one in flat(stages(found, NOW))] == [
        ("Preparing", "done", "5s"),
        ("Reading data", "done", "1s"),
        ("Loading model", "done", "3s"),
        ("Waiting for a GPU", "done", "5s"),
        ("Training run", "current", "20s"),
        ("Reading data", "next", ""),
        ("Loading model", "done", "4s"),
        ("Training", "current", duration(6 + 7)),
        ("Evaluating", "done", "3s"),
        ("Saving", "next", ""),
        ("Verifying", "next", ""),
    ]


def test_the_stage_in_which_a_job_failed_says_why() -> None:
    ended = ATTEMPT | {"endTime": "2026-01-01T12:00:25Z", "reason": "Error"}
    reported = [seen("t", "model", 10, 4), seen("t", "training", 14)]
    why = {"reason": "LossIsNaN", "message": "step 3: the loss is nan"}
    failed = job(phase="Failed", failure=why, attempts=[ended], stages=reported, **PREPARED)
    at = next(one for one in flat(stages(failed, NOW)) if one.state == "failed" and not one.within)
    assert (at.title, at.detail, at.duration) == ("Training", "LossIsNaN: step 3: the loss is nan", "11s")


def test_a_preflight_that_found_broken_rows_is_the_stage_that_failed() -> None:
    found = states(job(phase="Failed", failure={"reason": "InvalidDataset", "message": "row 7"}))
    assert (found["Preparing"], found["Waiting for a GPU"], found["Training run"]) == ("failed", "next", "next")


def test_all_stages_of_a_job_that_succeeded_are_done() -> None:
    found = job(phase="Succeeded", attempts=[ATTEMPT], stages=[seen("t", "training", 10)], **PREPARED)
    assert set(states(found).values()) == {"done"}


def test_stopping_offers_to_keep_a_model_only_while_there_is_one() -> None:
    assert [one["change"] for one in stop_choices(job(phase="Queued"))] == ["cancel"]
    choices = stop_choices(job(**running("training"), lastCheckpointStep=25))
    assert [one["change"] for one in choices] == ["stop", "cancel"]
    assert "checkpoint of step 25" in choices[1]["then"]


def test_shares_of_a_step_and_of_memory_fill_their_bars() -> None:
    progress = {"secondsPerStep": 2.0, "dataSeconds": 0.5, "forwardSeconds": 1.0, "backwardSeconds": 0.25}
    parts = figures.step_parts(progress)
    assert [(one["title"], one["share"]) for one in parts] == [
        ("Data", 25.0), ("Forward", 50.0), ("Backward", 12.5), ("Optimizer", 0.0), ("Other", 12.5),
    ]  # fmt: skip
    parts = figures.step_parts(progress | {"answeringSeconds": 3.0})
    assert [(one["title"], one["seconds"], one["share"]) for one in parts[-2:]] == [
        ("Other", "0.25", 5.0), ("Answers", "3.00", 60.0),
    ]  # fmt: skip
    assert figures.memory(job()) is None
    measured = figures.memory(job(progress={"gpuMemoryGiB": 12.0}))
    assert measured and (measured["measured"], measured["measured_share"]) == ("12.0 GiB", 100.0)


def test_what_to_do_is_shown_without_markdown() -> None:
    assert plain_text("Raise `backoffLimit` ([guide](guide.md)).") == "Raise backoffLimit (guide)."


def test_answers_to_validation_rows_come_first() -> None:
    scores = SampleScores(rows=4, exact_match_before=0, exact_match_after=1, similarity_before=0.5, similarity_after=1)
    made = OutputStatus(path="models/receipts", samples=Samples(train=scores, validation=scores)).to_dict()
    found = details(job(phase="Succeeded", output=made), NOW)["output"]
    assert [(title, rows) for title, rows, _ in found["samples"]] == [("validation", 4), ("training", 4)]
    assert details(job(phase="Succeeded", output={"path": "m"}), NOW)["output"]["samples"] == []


def test_the_step_of_the_saved_weights_is_told() -> None:
    made = {"path": "m", "trainedSteps": 500, "bestStep": 300, "bestEvalLoss": 0.25}
    shown = "of step 300 of 500, the lowest validation loss (0.2500)"
    assert details(job(phase="Succeeded", output=made), NOW)["output"]["weights"] == shown
    assert details(job(phase="Succeeded", output={"path": "m", "trainedSteps": 5}), NOW)["output"]["weights"] == ""


def test_a_curve_stays_inside_its_box() -> None:
    points = [tuple(map(float, point.split(","))) for point in rows.spark_points([3.0, 1.0, 2.0]).split()]
    assert all(0 <= x <= rows.SPARK_WIDTH and 0 <= y <= rows.SPARK_HEIGHT for x, y in points)
    assert (rows.spark_points([1.0]), rows.spark_points([2.0, 2.0]) != "") == ("", True)


def test_scores_of_tasks_are_shown_apart_from_those_of_rows() -> None:
    done = {"task": "gsm8k", "metric": "exact_match", "value": 0.25, "baseValue": 0.125, "standardError": 0.01}
    found = details(job(phase="Succeeded", evaluation={"scores": [done]}), NOW)["evaluation"]
    assert found["scores"] == [] and found["rows"] is None and found["compared"]
    assert found["tasks"] == [{"title": "gsm8k: exact_match", "base": "0.1250", "value": "0.2500 ± 0.0100"}]


def test_the_figures_of_a_method_are_curves_columns_and_a_list() -> None:
    history = [
        {"step": 1, "loss": 0.7, "metrics": {"rewards/margins": 0.0, "logps/chosen": -9.0}},
        {"step": 2, "evalLoss": 0.6},
    ]
    found = details(job(history=history, progress={"step": 2, "metrics": {"rewards/margins": 0.25}}), NOW)
    assert found["method_curves"] == ["rewards/margins"]
    assert figures.points(job(history=history))["rewards/margins"] == [0.0, None]
    assert [line[-1] for line in found["table"]] == ["0", ""]
    assert found["method_figures"] == [("rewards/margins", "0.25")]
    assert details(job(history=[{"step": 1, "loss": 0.7}]), NOW)["method_curves"] == []
    history[1]["metrics"] = {"eval_json_fields_f1": 0.5, "eval_json_fields_invalid": 0.1}
    found = details(job(history=history), NOW)
    assert [found["curve_titles"][name] for name in found["method_curves"]] == ["rewards/margins", "JSON fields: F1"]
