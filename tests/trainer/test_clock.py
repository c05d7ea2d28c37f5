"""Where a step's time is said to go, on a GPU that does its work only when it is waited for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from model_garden.contract.progress import ProgressEvent
from model_garden_trainer.engine import callbacks, instrumented
from model_garden_trainer.engine import clock as clocks
from tests.trainer.workspace import QUICK, TEXT, Workspace, config

pytestmark = pytest.mark.train


def test_the_optimizer_s_work_is_not_taken_for_waiting_for_data(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = SimpleNamespace(now=0.0, given=0.0)
    clock = SimpleNamespace(perf_counter=lambda: gpu.now)
    original = callbacks.ProgressCallback.on_pre_optimizer_step
    start = clocks.Clock.__init__

    def wait() -> None:
        gpu.now, gpu.given = gpu.now + gpu.given, 0.0

    def begun(self: clocks.Clock) -> None:
        start(self)
        self._wait = wait

    def optimize(self: Any, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        gpu.given = 5.0

    monkeypatch.setattr(clocks, "time", clock)
    monkeypatch.setattr(instrumented, "time", clock)
    monkeypatch.setattr(callbacks, "time", clock)
    monkeypatch.setattr(clocks.Clock, "__init__", begun)
    monkeypatch.setattr(callbacks.ProgressCallback, "on_pre_optimizer_step", optimize)
    _, told = workspace.train(config("timed", TEXT, QUICK, {"hyperparameters": {"maxSteps": 2}}))
    progress = [event.progress for event in told.events if isinstance(event, ProgressEvent)]
    assert [(step.optimizer_seconds, step.data_seconds, step.seconds_per_step) for step in progress] == [(5, 0, 5)] * 2
