"""Runs that cannot go well: evaluations whose loss is no number, and steps without a gradient."""

from __future__ import annotations

from typing import Any

import pytest

from model_garden_trainer.errors import TrainingError
from model_garden_trainer.methods.sft import TextTrainer
from tests.trainer.workspace import QUICK, TEXT, Workspace, config

pytestmark = pytest.mark.train

EVALUATED = {
    "validationFraction": 0.25,
    "hyperparameters": {"maxSteps": 4, "evalSteps": 1, "earlyStoppingPatience": 3, "learningRate": 1e-4},
}


@pytest.fixture
def broken_evaluations(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Steps whose evaluation gives NaN."""
    steps: set[int] = set()
    original = TextTrainer.compute_loss

    def loss(self: Any, model: Any, inputs: Any, *rest: Any, **options: Any) -> Any:
        result = original(self, model, inputs, *rest, **options)
        return result if model.training or self.state.global_step not in steps else result * float("nan")

    monkeypatch.setattr(TextTrainer, "compute_loss", loss)
    return steps


def test_an_evaluation_without_a_result_ends_the_run_and_is_not_retried(
    workspace: Workspace, broken_evaluations: set[int]
) -> None:
    broken_evaluations.add(2)
    with pytest.raises(TrainingError, match="step 2: the evaluation's loss is nan") as raised:
        workspace.train(config("fail", TEXT, QUICK, EVALUATED))
    assert raised.value.reason == "LossIsNaN" and raised.value.exit_code == 6


def test_one_that_is_to_be_skipped_is_told_and_never_the_best(
    workspace: Workspace, broken_evaluations: set[int]
) -> None:
    broken_evaluations |= {1, 3}
    outcome, told = workspace.train(config("skip", TEXT, QUICK, EVALUATED, {"health": {"nonFiniteLoss": "Skip"}}))
    assert outcome.result == "Succeeded" and outcome.progress and outcome.progress.step == 4
    assert set(told.eval_losses) == {2, 4}
    assert [warning.split(":")[0] for warning in told.warnings] == ["step 1", "step 3"]
    assert set(told.checkpoints) == {2, 4}  # better models are kept, and one that cannot be judged is not one


def test_a_run_that_trains_nothing_ends_although_its_loss_is_right(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TextTrainer.compute_loss

    def without_gradient(self: Any, *args: Any, **options: Any) -> Any:
        loss = original(self, *args, **options)
        return loss.detach() + 0 * loss

    monkeypatch.setattr(TextTrainer, "compute_loss", without_gradient)
    with pytest.raises(TrainingError, match=r"step 3: the loss is finite, but .* Set backend: transformers") as raised:
        workspace.train(config("idle", TEXT, QUICK, {"hyperparameters": {"maxSteps": 5}}))
    assert raised.value.reason == "NoGradient" and raised.value.exit_code == 6
