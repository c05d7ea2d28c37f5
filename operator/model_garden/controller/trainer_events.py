"""PURE: what the trainers of a job have reported so far, folded from their event lines.

Folding is idempotent by step: reading a pod's log again from its start, as after a restart of the operator, changes
nothing, and figures of a pod never go back while its log is read again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from model_garden.contract.progress import (
    CheckpointEvent,
    DatasetEvent,
    Event,
    ProgressEvent,
    ResumedEvent,
    StageEvent,
    WarningEvent,
)
from model_garden.contract.status import DatasetStatus, HistoryPoint, Progress, TrainingJobStatus
from model_garden.controller.history import add_point


@dataclass(frozen=True)
class Steps:
    """From which step to which a pod trained."""

    first: int | None = None
    last: int | None = None


@dataclass(frozen=True)
class Training:
    """All that was reported, by all attempts together; ``steps`` is by pod, and ``stage`` is the last pod's."""

    progress: Progress | None = None
    history: tuple[HistoryPoint, ...] = ()
    dataset: DatasetStatus | None = None
    checkpoint: int | None = None
    steps: tuple[tuple[str, Steps], ...] = ()
    stage: str | None = None
    warning: str | None = None

    def steps_of(self, pod: str) -> Steps:
        """What ``pod`` trained; nothing if it has not reported."""
        return dict(self.steps).get(pod, Steps())


def recorded(status: TrainingJobStatus) -> Training:
    """What a status holds of it: where to continue after a restart."""
    return Training(
        progress=status.progress,
        history=tuple(status.history or ()),
        dataset=status.dataset,
        checkpoint=status.last_checkpoint_step,
        steps=tuple((attempt.pod, Steps(attempt.from_step, attempt.to_step)) for attempt in status.attempts or ()),
    )


def fold(training: Training, pod: str, event: Event) -> Training:
    """``training`` after one more event of ``pod``."""
    match event:
        case ProgressEvent():
            return _reached(training, pod, event.progress)
        case CheckpointEvent():
            return replace(training, checkpoint=max(event.step, training.checkpoint or 0))
        case ResumedEvent():
            return _resumed(training, pod, event.step)
        case DatasetEvent():
            return replace(training, dataset=event.dataset)
        case StageEvent():
            return replace(training, stage=f"{event.stage}: {event.detail}" if event.detail else event.stage)
        case WarningEvent():
            return replace(training, warning=event.message)


def _reached(training: Training, pod: str, progress: Progress) -> Training:
    """A later attempt may be behind an earlier one; the same pod never goes back."""
    steps = training.steps_of(pod)
    if steps.last is not None and progress.step < steps.last:
        return training
    point = HistoryPoint(
        step=progress.step, loss=progress.loss, eval_loss=progress.eval_loss, learning_rate=progress.learning_rate
    )
    reported = point.loss is not None or point.eval_loss is not None
    return replace(
        training,
        progress=progress,
        history=tuple(add_point(training.history, point)) if reported else training.history,
        steps=_with(training, pod, Steps(steps.first or 0, progress.step)),
    )


def _resumed(training: Training, pod: str, step: int) -> Training:
    """The checkpoint resumed from is the last valid one, even if a later one was written and found broken."""
    if training.steps_of(pod).first is not None:
        return training
    return replace(training, checkpoint=step, steps=_with(training, pod, Steps(step, step)))


def _with(training: Training, pod: str, steps: Steps) -> tuple[tuple[str, Steps], ...]:
    return tuple((dict(training.steps) | {pod: steps}).items())
