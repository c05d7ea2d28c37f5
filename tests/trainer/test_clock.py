"""Where a step's time is said to go, on a GPU that does its work after it was given it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from model_garden.contract.progress import ProgressEvent
from model_garden_trainer.engine import callbacks, instrumented
from model_garden_trainer.engine.clock import Clock
from tests.trainer.workspace import QUICK, TEXT, Workspace, config

pytestmark = pytest.mark.train


class Gpu:
    """Works off what it is given, later: marks are set in the order in which they were given, between the work."""

    def __init__(self) -> None:
        self.work: list[float | Mark] = []
        self.now = 0.0

    def mark(self) -> Mark:
        self.work.append(Mark(self))
        return self.work[-1]  # type: ignore[return-value]

    def run(self) -> None:
        for item in self.work:
            if isinstance(item, Mark):
                item.at = self.now
            else:
                self.now += item
        self.work = []


class Mark:
    """As torch.cuda.Event."""

    at: float

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu

    def synchronize(self) -> None:
        self.gpu.run()

    def elapsed_time(self, other: Mark) -> float:
        return 1000 * (other.at - self.at)


def test_the_time_of_a_part_is_the_gpu_s_and_that_of_a_part_within_is_not_counted_twice() -> None:
    gpu = Gpu()
    clock = Clock(gpu.mark)
    for _ in range(2):
        with clock.measure("backward"):
            gpu.work.append(1.0)
            with clock.measure("forward"):
                gpu.work.append(3.0)
            gpu.work.append(4.0)
        gpu.work.append(100.0)  # between the parts
    assert gpu.now == 0, "nothing waits for the GPU"
    spent = clock.take()
    assert (spent["forward"], spent["backward"], spent["optimizer"]) == (6, 10, 0)
    assert not any(clock.take().values())


def test_a_part_that_fails_is_closed() -> None:
    clock = Clock()
    with pytest.raises(RuntimeError), clock.measure("backward"), clock.measure("forward"):
        raise RuntimeError
    with clock.measure("forward"):
        pass
    assert clock.take()["forward"] > 0


def test_the_optimizer_s_work_is_not_taken_for_another_part(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = Gpu()
    original = callbacks.ProgressCallback.on_pre_optimizer_step

    def optimize(self: Any, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        gpu.work.append(5.0)

    clock: Callable[[], Clock] = lambda: Clock(gpu.mark)  # noqa: E731
    monkeypatch.setattr(instrumented, "Clock", clock)
    monkeypatch.setattr(callbacks.ProgressCallback, "on_pre_optimizer_step", optimize)
    _, told = workspace.train(config("timed", TEXT, QUICK, {"hyperparameters": {"maxSteps": 2}}))
    progress = [event.progress for event in told.events if isinstance(event, ProgressEvent)]
    assert [(step.optimizer_seconds, step.forward_seconds, step.backward_seconds) for step in progress] == [
        (5, 0, 0)
    ] * 2
