"""What a trainer tells survives the way to the operator."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_garden.contract.progress import (
    TERMINATION_MESSAGE_BYTES,
    CheckpointEvent,
    Event,
    Outcome,
    ProgressEvent,
    StageEvent,
    event_line,
    parse_event,
    parse_outcome,
    termination_message,
)
from model_garden.contract.status import Progress


@pytest.mark.parametrize(
    "event",
    [
        StageEvent(stage="model", detail="äöü\nsecond line"),
        CheckpointEvent(step=10),
        ProgressEvent(progress=Progress(step=3, total_steps=10, loss=1.5, gpu_memory_gib=2.5)),
    ],
)
def test_an_event_is_one_line_and_reads_back(event: Event) -> None:
    line = event_line(event)
    assert "\n" not in line
    assert parse_event(line) == event


@pytest.mark.parametrize(
    "line", ["", "Loading weights", '{"event":"progress","prog', '{"event":"unheard"}', '{"loss": 1}']
)
def test_other_lines_and_broken_ones_are_not_events(line: str) -> None:
    assert parse_event(line) is None


@given(message=st.text(max_size=9000))
def test_a_termination_message_fits_and_reads_back(message: str) -> None:
    outcome = Outcome(result="Failed", exit_code=3, reason="InvalidDataset", message=message)
    text = termination_message(outcome)
    assert len(text.encode()) <= TERMINATION_MESSAGE_BYTES
    read = parse_outcome(text)
    assert read is not None
    assert (read.exit_code, read.reason) == (3, "InvalidDataset")
    if len(message.encode()) < 500:
        assert read.message == message


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    outcome = parse_outcome(
        termination_message(Outcome(result="Failed", exit_code=3, message="first " + "x" * 9000 + " the fix"))
    )
    assert outcome and outcome.message
    assert outcome.message.startswith("first ")
    assert outcome.message.endswith(" the fix")


BROKEN = (None, "", "Killed", '{"result":')


@pytest.mark.parametrize("message", BROKEN)
def test_no_outcome_is_made_up(message: str | None) -> None:
    assert parse_outcome(message) is None


def test_a_field_of_a_newer_trainer_costs_none_of_the_others() -> None:
    event = parse_event('{"event":"progress","progress":{"step":3,"totalSteps":9,"loss":1.5,"fromTheFuture":1}}')
    assert event == ProgressEvent(progress=Progress(step=3, total_steps=9, loss=1.5))
    outcome = parse_outcome('{"result":"Failed","exitCode":3,"message":"row 7","fromTheFuture":{}}')
    assert outcome is not None and outcome.message == "row 7"


def test_an_outcome_of_a_newer_trainer_keeps_all_that_this_version_can_read() -> None:
    newer = {
        "result": "Failed",
        "exitCode": 9,
        "reason": "SomethingNewer",
        "message": "why, and the fix",
        "checkpointStep": 40,
        "output": {"path": "./models/receipts", "verified": "in a new way"},
        "estimate": {"memory": "unified"},
        "somethingNewer": {"a": 1},
    }
    read = parse_outcome(json.dumps(newer))
    assert read is not None
    assert (read.exit_code, read.reason, read.message, read.checkpoint_step) == (
        9,
        "SomethingNewer",
        "why, and the fix",
        40,
    )
    assert read.output is None and read.estimate is None


@pytest.mark.parametrize(
    "message", [None, "", "Killed", '{"result": "Failed"', "{}", '{"result": "Unknown", "exitCode": 1}']
)
def test_what_is_no_outcome_is_none(message: str | None) -> None:
    assert parse_outcome(message) is None
