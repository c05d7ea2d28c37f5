"""When a run is expected to end."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from model_garden.contract.progress import Event, ProgressEvent
from model_garden_trainer.engine.forecast import Forecast, seconds_after_training
from model_garden_trainer.engine.stopping import StopRequests
from model_garden_trainer.errors import Stopped
from tests.trainer.preferences import stopping_in_step
from tests.trainer.workspace import QUICK, TEXT, Workspace, config


def forecast(after: float = 0.0) -> Forecast:
    """100 steps, with an evaluation every 20 and a checkpoint every 30."""
    return Forecast(total=100, evaluation_every=20, save_every=30, after_training=after)


def test_the_first_step_of_a_process_counts_only_until_there_is_another() -> None:
    found = forecast()

    found.add_step(60.0)
    first = found.seconds_left(1)
    found.add_step(2.0)

    assert first == 60.0 * 99
    assert found.seconds_left(2) == pytest.approx(2.0 * 98)


def test_one_slow_step_does_not_move_the_end_far() -> None:
    found = forecast()
    for _ in range(60):
        found.add_step(1.0)
    before = found.seconds_left(60)

    found.add_step(11.0)

    assert before == pytest.approx(40)
    assert found.seconds_left(61) < 1.25 * 39


def test_a_lasting_change_of_pace_is_followed() -> None:
    found = forecast()
    for _ in range(30):
        found.add_step(1.0)
    for _ in range(200):
        found.add_step(3.0)

    assert found.seconds_left(90) == pytest.approx(30, rel=0.05)


def test_evaluations_checkpoints_and_what_follows_training_are_counted() -> None:
    found = forecast(after=7.0)
    for _ in range(3):
        found.add_step(1.0)
    found.add_pause(20, 5.0)
    found.add_pause(30, 2.0)
    found.add_pause(31, 0.5)  # no more than the next step's beginning

    # evaluations after 60, 80 and 100, the last with a checkpoint; of the checkpoints 60 comes with an evaluation
    assert found.seconds_left(60) == pytest.approx(40 + 3 * 5 + 1 * 2 + 7)
    assert found.seconds_left(100) == pytest.approx(5 + 7)


def test_answers_during_training_are_counted_apart_from_evaluations_and_after_training_too() -> None:
    found = forecast(after=7.0)
    found.answers_every, found.answers_after = 2, 2
    for _ in range(3):
        found.add_step(1.0)
    found.add_pause(20, 5.0)
    assert [step for step in range(1, 101) if found.answers_at(step) and step % 20 == 0] == [40, 80]
    assert found.answering_per_step() is None

    found.add_answers(30.0)
    found.add_pause(40, 35.0)

    # evaluations after 60, 80 and 100, of which that after 80 has answers; a checkpoint alone after 90
    assert found.seconds_left(60) == pytest.approx(40 + 3 * 5 + (1 + 2) * 30 + 7)
    assert found.answering_per_step() == 30 / 40
    later = forecast()
    later.recall(found.notes())
    assert later.answers == found.answers, "a resumed run knows"
    found.total = 110
    assert found.answers_at(110), "the sixth evaluation comes early, at the last step"


def test_an_evaluation_is_counted_before_there_was_one() -> None:
    found = forecast()
    for _ in range(3):
        found.add_step(1.0)

    found.expect_evaluation(4.0)
    expected = found.seconds_left(90)
    found.add_pause(20, 6.0)
    found.expect_evaluation(4.0)

    assert expected == pytest.approx(10 + 4)
    assert found.seconds_left(90) == pytest.approx(10 + 6)


@pytest.mark.parametrize(
    ("save_method", "seconds"), [("lora", 3 + 10), ("merged_16bit", 20 + 3 + 20), ("gguf", 40 + 3 + 20)]
)
def test_an_export_reads_and_writes_the_model(save_method: str, seconds: float) -> None:
    assert seconds_after_training(save_method, startup=3.0, loading=10.0) == seconds


@pytest.mark.train
def test_a_resumed_run_says_at_once_when_it_will_end(workspace: Workspace) -> None:
    job = config("resumed", TEXT, QUICK, {"hyperparameters": {"maxSteps": 6, "loggingSteps": 2}})
    requests = StopRequests()
    with pytest.raises(Stopped), stopping_in_step(3, requests):
        workspace.train(job, requests=requests)
    events: list[Event] = []

    workspace.train(job, on_event=events.append)

    first = next(event for event in events if isinstance(event, ProgressEvent)).progress
    assert first.step == 3
    assert first.loss is None  # the last report was of step 2
    durations = json.loads((workspace.folder / "models/resumed/checkpoints/checkpoint-6/complete.json").read_text())
    assert durations["notes"]["durations"]["steps"][1] == 4  # of six, without the first of each attempt
    assert first.estimated_completion_time is not None
    assert datetime.fromisoformat(first.estimated_completion_time) > datetime.now(UTC) - timedelta(minutes=5)
