"""The hint that training waits for its data."""

from __future__ import annotations

import pytest

from model_garden.contract.status import Progress
from model_garden_trainer.engine import input_stall as module
from model_garden_trainer.engine.input_stall import Waiting
from tests.trainer.workspace import QUICK, TEXT, Workspace, config


def told(*reports: tuple[float, float], steps: int = 10, vision: bool = True) -> list[str]:
    """The hints after reports of (seconds a step, of them for data)."""
    waiting = Waiting(vision=vision)
    progress = [Progress(step=1, total_steps=9, seconds_per_step=step, data_seconds=data) for step, data in reports]
    return [hint for each in progress if (hint := waiting.hint(each, steps))]


def test_it_is_said_once_with_what_helps() -> None:
    [hint] = told((1, 0.9), (2, 0.5), (2, 0.5), (2, 2))
    assert hint.startswith("25% of the training time is spent waiting for data: images")
    assert "resources.requests.cpu" in hint and "imageOptions.maxPixels" in hint
    [hint] = told((1, 0.9), (2, 0.5), vision=False)
    assert "tokenized" in hint and "maxPixels" not in hint


def test_a_fifth_a_slow_start_and_a_short_run_are_no_reason() -> None:
    assert told((9, 9), (2, 0.4), (2, 0.4)) == []
    assert told((1, 0.9), (0.1, 0.09)) == []
    assert told((1, 0.9), (0.1, 0.09), steps=1) == []


@pytest.mark.train
def test_a_run_says_it(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARE", 0.0)
    monkeypatch.setattr(module, "SECONDS", 0.0)
    _, reported = workspace.train(config("job", TEXT, QUICK, {"hyperparameters": {"maxSteps": 4}}))
    [warning] = reported.warnings
    assert "waiting for data" in warning
