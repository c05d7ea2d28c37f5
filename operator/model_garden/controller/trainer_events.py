"""PURE: what the trainers of a job have reported so far, folded from their event lines.

Folding is idempotent by step: reading a pod's log again from its start, as after a restart of the operator, changes
nothing, and figures of a pod never go back while its log is read again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime

from model_garden.contract.progress import (
    CheckpointEvent,
    DatasetEvent,
    EvaluationEvent,
    Event,
    ProgressEvent,
    ResumedEvent,
    SampleEvent,
    StageEvent,
    WarningEvent,
)
from model_garden.contract.status import (
    MAX_CHECKPOINTS,
    MAX_STAGES,
    MAX_WARNINGS,
    CountedWarning,
    DatasetStatus,
    EvaluationStatus,
    HistoryPoint,
    Progress,
    Stage,
    StageTime,
    TrainingJobStatus,
)
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
    evaluation: EvaluationStatus | None = None
    checkpoint: int | None = None
    checkpoints: tuple[int, ...] = ()
    stages: tuple[StageTime, ...] = ()
    warnings: tuple[CountedWarning, ...] = ()
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
        evaluation=status.evaluation,
        checkpoint=status.last_checkpoint_step,
        checkpoints=tuple(status.checkpoint_steps or ()),
        stages=tuple(status.stages or ()),
        warnings=tuple(status.warnings or ()),
        steps=tuple((attempt.pod, Steps(attempt.from_step, attempt.to_step)) for attempt in status.attempts or ()),
    )


def fold(training: Training, pod: str, event: Event) -> Training:
    """``training`` after one more event of ``pod``."""
    match event:
        case ProgressEvent():
            return _reached(training, pod, event.progress)
        case CheckpointEvent():
            written = tuple(sorted({*training.checkpoints, event.step}))[-MAX_CHECKPOINTS:]
            return replace(training, checkpoint=max(event.step, training.checkpoint or 0), checkpoints=written)
        case ResumedEvent():
            return _resumed(training, pod, event.step)
        case DatasetEvent():
            return replace(training, dataset=event.dataset)
        case EvaluationEvent():
            return replace(training, evaluation=event.evaluation)
        case StageEvent():
            stage = f"{event.stage}: {event.detail}" if event.detail else event.stage
            return replace(training, stage=stage, stages=_entered(training.stages, pod, event))
        case WarningEvent():
            return replace(training, warning=event.message, warnings=_warned(training.warnings, event))
        case SampleEvent():
            return training


def _reached(training: Training, pod: str, progress: Progress) -> Training:
    """A later attempt may be behind an earlier one; the same pod never goes back."""
    steps = training.steps_of(pod)
    if steps.last is not None and progress.step < steps.last:
        return training
    point = HistoryPoint(
        step=progress.step,
        loss=progress.loss,
        eval_loss=progress.eval_loss,
        learning_rate=progress.learning_rate,
        grad_norm=progress.grad_norm,
        tokens_per_second=progress.tokens_per_second,
        metrics=progress.metrics,
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
    kept = tuple(one for one in training.checkpoints if one <= step)
    return replace(training, checkpoint=step, checkpoints=kept, steps=_with(training, pod, Steps(step, step)))


def _entered(stages: tuple[StageTime, ...], pod: str, event: StageEvent) -> tuple[StageTime, ...]:
    """``stages`` after ``pod`` entered a stage. What it reported before that it reports again if its log is reread."""
    own = [one for one in stages if one.pod == pod]
    now = own[-1] if own else None
    if event.time is None or (now and event.time < now.entered_time):
        return stages
    if now and now.stage == event.stage:
        return (*_without(stages, now), now.model_copy(update={"detail": event.detail}))
    if now:
        left = now.model_copy(update={"seconds": now.seconds + _since(now, event.time), "left_time": event.time})
        stages = tuple(left if one is now else one for one in stages)
    before = next((one for one in own if one.stage == event.stage), None)
    return (*_without(stages, before), _visit(before, pod, event.stage, event.time, event.detail))[-MAX_STAGES:]


def _visit(before: StageTime | None, pod: str, stage: Stage, time: str, detail: str | None) -> StageTime:
    """A stage that a pod enters. One that it left in the same second, as a log that is reread has it, goes on."""
    if before is None:
        return StageTime(pod=pod, stage=stage, entered_time=time, detail=detail)
    if before.left_time == time:
        seconds = before.seconds - _since(before, time)
        return before.model_copy(update={"seconds": seconds, "left_time": None, "detail": detail})
    first = before.first_entered_time or before.entered_time
    return StageTime(
        pod=pod, stage=stage, entered_time=time, first_entered_time=first, seconds=before.seconds, detail=detail
    )


def _since(stage: StageTime, time: str) -> float:
    """Seconds from the last entry to ``time``."""
    return (datetime.fromisoformat(time) - datetime.fromisoformat(stage.entered_time)).total_seconds()


def _without(stages: tuple[StageTime, ...], removed: StageTime | None) -> tuple[StageTime, ...]:
    return tuple(one for one in stages if one is not removed)


def _warned(warnings: tuple[CountedWarning, ...], event: WarningEvent) -> tuple[CountedWarning, ...]:
    """``warnings`` and one more; one that is not newer than the last of its kind was counted before."""
    if event.time is None:
        return warnings
    before = next((one for one in warnings if _kind(one.message) == _kind(event.message)), None)
    if before is None:
        return (*warnings, CountedWarning(message=event.message, last_time=event.time))[-MAX_WARNINGS:]
    if event.time <= before.last_time:
        return warnings
    again = CountedWarning(message=event.message, count=before.count + 1, last_time=event.time)
    return tuple(again if one is before else one for one in warnings)


def _kind(message: str) -> str:
    """A message without its numbers: those of steps and values differ each time."""
    return re.sub(r"\d+", "#", message)


def _with(training: Training, pod: str, steps: Steps) -> tuple[tuple[str, Steps], ...]:
    return tuple((dict(training.steps) | {pod: steps}).items())
