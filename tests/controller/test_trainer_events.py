"""Folding the events of trainers: none is lost, and none counts twice when it is read again."""

from dataclasses import replace
from itertools import pairwise
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from model_garden.contract.progress import (
    CheckpointEvent,
    DatasetEvent,
    Event,
    ProgressEvent,
    ResumedEvent,
    StageEvent,
    WarningEvent,
)
from model_garden.contract.status import (
    MAX_HISTORY,
    Attempt,
    DatasetStatus,
    HistoryPoint,
    Progress,
    Stage,
    TrainingJobStatus,
)
from model_garden.controller.history import add_point
from model_garden.controller.trainer_events import Steps, Training, fold, recorded


def reached(step: int, loss: float = 1.0) -> ProgressEvent:
    return ProgressEvent(progress=Progress(step=step, total_steps=1000, loss=loss))


def training_after(pod: str, *events: Event, training: Training = Training()) -> Training:  # noqa: B008 - frozen
    for event in events:
        training = fold(training, pod, event)
    return training


def history(*steps: int) -> list[HistoryPoint]:
    points: list[HistoryPoint] = []
    for step in steps:
        points = add_point(points, HistoryPoint(step=step, loss=1.0))
    return points


def steps_of(points: list[HistoryPoint]) -> list[int]:
    return [point.step for point in points]


growing = st.lists(st.integers(1, 50), min_size=1, max_size=400).map(
    lambda gaps: [sum(gaps[: i + 1]) for i in range(len(gaps))]
)


@given(growing)
def test_a_history_is_short_sorted_and_keeps_its_ends(steps: list[int]) -> None:
    kept = steps_of(history(*steps))
    assert len(kept) <= MAX_HISTORY
    assert kept == sorted(set(kept))
    assert (kept[0], kept[-1]) == (steps[0], steps[-1])
    assert set(kept) <= set(steps)


@given(growing)
def test_points_added_again_change_nothing(steps: list[int]) -> None:
    once = history(*steps)
    again = once
    for step in steps:
        again = add_point(again, HistoryPoint(step=step, loss=1.0))
    assert again == once


def test_the_first_sixty_four_points_are_all_kept_then_the_spacing_doubles() -> None:
    assert steps_of(history(*range(1, 65))) == list(range(1, 65))
    assert steps_of(history(*range(1, 66))) == list(range(1, 66, 2))
    assert steps_of(history(*range(1, 67))) == [*range(1, 66, 2), 66], "the newest point is always there"
    assert steps_of(history(*range(1, 68))) == list(range(1, 68, 2)), "and gives way to the next on the grid"


@given(st.integers(65, 3000))
def test_a_long_run_is_covered_evenly(count: int) -> None:
    kept = steps_of(history(*range(1, count + 1)))
    gaps = [after - before for before, after in pairwise(kept)]
    assert len(kept) >= MAX_HISTORY // 2
    assert len(set(gaps[:-1])) == 1, "one spacing, but for the newest point"


def test_an_evaluation_is_kept_when_its_neighbors_are_thinned_out() -> None:
    points: list[HistoryPoint] = []
    for step in range(1, 1001):
        evaluated = 2.0 if step % 100 == 0 else None
        points = add_point(points, HistoryPoint(step=step, loss=1.0, eval_loss=evaluated))
    assert [point.step for point in points if point.eval_loss] == list(range(100, 1001, 100))


def test_a_later_attempt_replaces_the_steps_it_repeats() -> None:
    first = training_after("one", *(reached(step, loss=5.0) for step in range(1, 8)))
    second = training_after("two", ResumedEvent(step=5), reached(6, loss=3.0), training=first)
    assert second.progress and second.progress.step == 6
    assert [point.loss for point in second.history] == [5.0, 5.0, 5.0, 5.0, 5.0, 3.0, 5.0]
    assert (second.steps_of("one"), second.steps_of("two")) == (Steps(0, 7), Steps(5, 6))


def clock(second: int) -> str:
    return f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z"


at = st.integers(1, 200)
events = st.lists(
    st.one_of(
        st.integers(1, 200).map(reached),
        st.integers(1, 200).map(lambda step: CheckpointEvent(step=step)),
        st.just(DatasetEvent(dataset=DatasetStatus(rows=3))),
        st.builds(lambda stage, at: StageEvent(stage=stage, time=clock(at)), st.sampled_from(get_args(Stage)), at),
        st.builds(lambda number, at: WarningEvent(message=f"row {number}: cut", time=clock(at)), at, at),
    ),
    max_size=60,
).map(lambda found: sorted(found, key=_step))


def _step(event: Event) -> int:
    match event:
        case ProgressEvent():
            return event.progress.step
        case CheckpointEvent():
            return event.step
        case StageEvent() | WarningEvent():
            return int(event.time[14:16]) * 60 + int(event.time[17:19]) if event.time else 0
    return 0


@given(events, st.integers(0, 60), st.integers(0, 60))
def test_an_operator_restarted_at_any_event_has_the_same_figures(found: list[Event], cut: int, kept: int) -> None:
    """It read up to ``cut``, its last patch held what it had read up to ``kept``; then all is read again."""
    whole = training_after("one", *found)
    status = as_status(training_after("one", *found[: min(cut, kept)]))
    again = training_after("one", *found, training=recorded(status))
    assert replace(again, stage=whole.stage, warning=whole.warning) == whole


def test_time_in_a_stage_adds_up_over_its_visits() -> None:
    visits = (("training", 10), ("evaluating", 30), ("training", 34), ("evaluating", 50), ("training", 55))
    found = [StageEvent(stage=stage, time=clock(second)) for stage, second in visits]  # type: ignore[arg-type]
    spent = {one.stage: (one.seconds, one.entered_time) for one in training_after("one", *found).stages}
    assert spent == {"evaluating": (9, clock(50)), "training": (36, clock(55))}
    first = {one.stage: (one.first_entered_time, one.left_time) for one in training_after("one", *found).stages}
    assert first == {"evaluating": (clock(30), clock(55)), "training": (clock(10), None)}
    assert training_after("one", *found, *found).stages == training_after("one", *found).stages, "read again"


def test_warnings_are_counted_by_kind() -> None:
    def warned(message: str, second: int) -> WarningEvent:
        return WarningEvent(message=message, time=clock(second))

    found = [warned("step 3: the loss is nan", 1), warned("slow data", 2), warned("step 7: the loss is nan", 9)]
    kept = [(one.message, one.count) for one in training_after("one", *found, *found).warnings]
    assert kept == [("step 7: the loss is nan", 2), ("slow data", 1)]


@given(events, st.integers(0, 60))
def test_figures_never_go_back_while_a_log_is_read_again(found: list[Event], cut: int) -> None:
    training = recorded(as_status(training_after("one", *found)))
    for event in found[:cut]:
        training = fold(training, "one", event)
        assert training.progress == training_after("one", *found).progress


def test_a_broken_checkpoint_is_not_the_last_one_any_more() -> None:
    first = training_after("one", CheckpointEvent(step=10), CheckpointEvent(step=20))
    assert training_after("two", ResumedEvent(step=10), training=first).checkpoint == 10
    on = training_after("two", ResumedEvent(step=10), CheckpointEvent(step=20), training=first)
    assert training_after("two", ResumedEvent(step=10), training=on).checkpoint == 20, "read again"


def as_status(training: Training) -> TrainingJobStatus:
    return TrainingJobStatus(
        progress=training.progress,
        history=list(training.history) or None,
        dataset=training.dataset,
        last_checkpoint_step=training.checkpoint,
        checkpoint_steps=list(training.checkpoints) or None,
        stages=list(training.stages) or None,
        warnings=list(training.warnings) or None,
        attempts=[Attempt(pod=pod, from_step=s.first, to_step=s.last) for pod, s in training.steps] or None,
    )
