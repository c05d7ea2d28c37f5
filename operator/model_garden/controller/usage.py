"""PURE: the GPU time of a job, from the times of its pods."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from model_garden.contract.status import Attempt, StageTime, Usage
from model_garden.controller.observed import PodFacts
from model_garden.controller.trainer_events import Training

_TRAINING = ("training", "evaluating")
_HOUR = 3600


@dataclass(frozen=True)
class Price:
    """What an hour of one GPU costs, in a currency such as USD."""

    gpu_hour: float
    currency: str


def gpu_seconds(pod: PodFacts, training: Training, gpus: int, end_time: str | None) -> tuple[float, float]:
    """The seconds for which the GPUs of an attempt were held, and those of them in which they trained.

    The leading pod stands for those of other nodes, which hold theirs as long; an attempt of one of them counts
    nothing. GPUs are held from the binding of the pod to its node until its end. Of a pod that runs, the time until its
    last report counts, so that a status changes with the reports alone.

    Args:
        pod: the attempt's pod.
        training: what the trainers have reported.
        gpus: GPUs of all pods of the attempt.
        end_time: when the attempt ended; None while it runs.
    """
    own = [stage for stage in training.stages if stage.pod == pod.name]
    began, until = pod.scheduled or pod.started, end_time or _last_report(own, training)
    if pod.index > 0 or not gpus or not began or not until:
        return 0.0, 0.0
    return gpus * _between(began, until), gpus * sum(_seconds_in(stage, own, until) for stage in own)


def usage(before: Usage | None, known: Sequence[Attempt], now: Iterable[Attempt], price: Price | None) -> Usage | None:
    """The GPU time of all attempts, also of those that the status no longer lists; None without any.

    Args:
        before: what the status says so far.
        known: the attempts that ``before`` has counted.
        now: the attempts as they are now.
        price: adds the cost.
    """
    counted = {attempt.pod: attempt for attempt in known}
    held = _seconds(before.gpu_hours) if before else 0.0
    trained = _seconds(before.training_gpu_hours) if before else 0.0
    for attempt in now:
        old = counted.get(attempt.pod) or Attempt(pod=attempt.pod)
        held += (attempt.gpu_seconds or 0) - (old.gpu_seconds or 0)
        trained += (attempt.training_gpu_seconds or 0) - (old.training_gpu_seconds or 0)
    if not held:
        return None
    found = Usage(gpu_hours=round(held / _HOUR, 6), training_gpu_hours=round(trained / _HOUR, 6))
    if price:
        found.cost, found.currency = round(held / _HOUR * price.gpu_hour, 2), price.currency
    return found


def _seconds(hours: float) -> float:
    """The seconds of which the six decimal places of ``hours`` were made; else each status would add their rounding."""
    return round(hours * _HOUR, 2)


def _last_report(own: Sequence[StageTime], training: Training) -> str | None:
    """When the pod with the stages ``own`` reported last."""
    times = [stage.entered_time for stage in own]
    if own and training.stages and training.stages[-1] is own[-1] and training.progress:
        times += [training.progress.last_report_time or ""]
    return max(times, default=None)


def _seconds_in(stage: StageTime, own: Sequence[StageTime], until: str) -> float:
    if stage.stage not in _TRAINING:
        return 0.0
    return stage.seconds + (max(0.0, _between(stage.entered_time, until)) if stage is own[-1] else 0.0)


def _between(begin: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
