"""Events and checkpoints from a status."""

from typing import Any

import pytest

from model_garden.openai_api.events import checkpoints, events

Object = dict[str, Any]


def job(**status: Any) -> Object:
    return {
        "metadata": {
            "name": "receipts",
            "namespace": "default",
            "uid": "01234567-89ab",
            "creationTimestamp": "2026-11-27T10:00:00Z",
        },
        "spec": {"baseModel": "a/b", "datasetPath": "./data/receipts.jsonl"},
        "status": status,
    }


RUNNING: Object = {
    "phase": "Running",
    "preflightCompletionTime": "2026-11-27T10:01:00Z",
    "startTime": "2026-11-27T10:02:00Z",
    "dataset": {"rows": 40},
    "progress": {"step": 30, "totalSteps": 60, "lastReportTime": "2026-11-27T10:20:00Z"},
    "checkpointSteps": [10, 20],
    "warnings": [{"message": "row 7 is cut", "count": 1, "lastTime": "2026-11-27T10:02:01Z"}],
    "history": [{"step": step, "loss": 4 / step, "learningRate": 1e-4} for step in (10, 20, 30)],
    "attempts": [
        {
            "pod": "receipts-train-a",
            "reason": "Preempted",
            "message": "a pod of higher priority needed the node",
            "fromStep": 0,
            "toStep": 20,
            "startTime": "2026-11-27T10:02:00Z",
            "endTime": "2026-11-27T10:12:00Z",
        },
        {"pod": "receipts-train-b", "fromStep": 20, "toStep": 30, "startTime": "2026-11-27T10:13:00Z"},
    ],
}


def test_events_tell_the_run_from_its_end_to_its_start() -> None:
    found = events(job(**RUNNING))
    assert [event["message"] for event in reversed(found)] == [
        "Created fine-tuning job: ftjob-receipts",
        "Files validated (40 rows), moving job to queued state",
        "Fine-tuning job started",
        "row 7 is cut",
        "Step 10/60: training loss=0.4000",
        "Checkpoint created at step 10",
        "Step 20/60: training loss=0.2000",
        "Checkpoint created at step 20",
        "The pod receipts-train-a ended (Preempted): a pod of higher priority needed the node",
        "Fine-tuning continues in the pod receipts-train-b",
        "Step 30/60: training loss=0.1333",
    ]
    assert found[0]["data"] == {"step": 30, "train_loss": 4 / 30, "learning_rate": 1e-4}
    assert [event["level"] for event in found if event["level"] != "info"] == ["warn", "warn"]


def test_a_client_that_polls_sees_each_event_once() -> None:
    seen: list[str] = []
    states = [
        job(),
        job(**RUNNING | {"history": RUNNING["history"][:1]}),
        job(**RUNNING | {"history": [*RUNNING["history"][:2], {"step": 30, "loss": 0.1, "evalLoss": 0.2}]}),
        job(**RUNNING | {"warnings": [{"message": "row 9 is cut", "count": 2, "lastTime": "2026-11-27T10:19:00Z"}]}),
        job(**RUNNING | {"phase": "Succeeded", "completionTime": "2026-11-27T10:30:00Z", "output": {"path": "m"}}),
    ]
    for state in states:
        found = events(state)
        assert len({event["id"] for event in found}) == len(found)
        assert found == sorted(found, key=lambda event: event["created_at"], reverse=True)
        seen += [event["message"] for event in reversed(found) if event["id"] not in seen]
        seen += [event["id"] for event in found]
    messages = [text for text in seen if not text.startswith("ftevent-")]
    assert len(messages) == len(set(messages))
    assert [text for text in messages if "is cut" in text] == ["row 7 is cut"]
    assert "Step 30/60: validation loss=0.2000" in messages
    assert messages[-2:] == ["New fine-tuned model created: m", "The job has successfully completed"]


@pytest.mark.parametrize(
    ("status", "words", "level"),
    [
        ({"phase": "Cancelled"}, "The job was cancelled", "info"),
        (
            {"phase": "Failed", "failure": {"reason": "InvalidDataset", "message": "row 3: no answer"}},
            "The job failed: InvalidDataset: row 3: no answer",
            "error",
        ),
    ],
)
def test_the_end_is_told(status: Object, words: str, level: str) -> None:
    last = events(job(**status, completionTime="2026-11-27T10:30:00Z"))[0]
    assert (last["message"], last["level"]) == (words, level)


def test_the_end_comes_last_also_if_the_pod_ended_later() -> None:
    pod = {"pod": "p", "fromStep": 0, "toStep": 1, "startTime": "2026-11-27T10:00:00Z"}
    done = job(
        phase="Succeeded",
        attempts=[pod | {"reason": "Completed", "endTime": "2026-11-27T10:00:09Z"}],
        history=[{"step": 1, "loss": 0.5}],
        completionTime="2026-11-27T10:00:08Z",
        output={"path": "m"},
    )
    messages = [event["message"] for event in events(done)]
    assert messages[:2] == ["The job has successfully completed", "New fine-tuned model created: m"]


def test_a_job_of_the_same_name_has_events_of_its_own() -> None:
    later = job()
    later["metadata"]["uid"] = "76543210"
    assert events(job())[0]["id"] != events(later)[0]["id"]


def test_the_checkpoints_that_are_kept_are_listed_with_their_figures() -> None:
    assert [one["step_number"] for one in checkpoints(job(**RUNNING | {"checkpointSteps": [5, 10, 20]}))] == [20, 10]
    found = checkpoints(job(**RUNNING))[0]
    assert found["fine_tuned_model_checkpoint"] == "./models/receipts/checkpoints/checkpoint-20"
    assert found["metrics"] == {"step": 20, "train_loss": 0.2, "learning_rate": 1e-4}
    assert (found["step_number"], found["fine_tuning_job_id"]) == (20, "ftjob-receipts")
    assert checkpoints(job()) == []
