"""Which weights a run saves: those of the step with the lowest validation loss, also when it is stopped or moved."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from model_garden.contract.progress import Event, ProgressEvent
from model_garden_trainer.engine.stopping import StopRequests
from model_garden_trainer.errors import Stopped
from tests.trainer.workspace import QUICK, TEXT, Workspace, config, same, stop_at

pytestmark = pytest.mark.train


def give_losses(patch: pytest.MonkeyPatch, loss: Callable[[int], int]) -> None:
    """Let the evaluation of each step find this validation loss."""
    from model_garden_trainer.engine.instrumented import Instrumented

    evaluate = Instrumented.evaluation_loop

    def given(self: Any, *args: Any, **options: Any) -> Any:
        output = evaluate(self, *args, **options)
        output.metrics["eval_loss"] = float(loss(self.state.global_step))
        return output

    patch.setattr(Instrumented, "evaluation_loop", given)


def test_evaluations_choose_the_model_and_end_training(workspace: Workspace) -> None:
    part = {
        "validationFraction": 0.3,
        "hyperparameters": {
            "numEpochs": 40, "evalSteps": 1, "earlyStoppingPatience": 2, "learningRate": 0.5, "saveTotalLimit": 1,
        },
    }  # fmt: skip
    outcome, told = workspace.train(config("patient", TEXT, QUICK, part))
    losses = told.eval_losses
    best = min(losses, key=lambda step: losses[step])
    assert max(losses) == best + 2
    assert outcome.progress is not None and outcome.progress.step < outcome.progress.total_steps
    assert not outcome.stopped_early  # nobody asked for it
    from safetensors.torch import load_file

    root = workspace.folder / "models/patient/checkpoints"
    assert same(workspace.adapter("patient"), load_file(root / f"checkpoint-{best}/adapter_model.safetensors"))
    made = outcome.output
    assert made is not None and (made.trained_steps, made.best_step) == (best + 2, best)
    assert made.best_eval_loss == pytest.approx(losses[best], rel=1e-5)
    assert workspace.record("patient")["output"]["bestStep"] == best
    card = (workspace.folder / "models/patient/README.md").read_text()
    assert "| Quantization | none in training; 32 bit for the answers below |" in card
    assert f"| Weights | of step {best} of {best + 2}, the lowest validation loss ({losses[best]:.4f}) |" in card


@pytest.mark.parametrize("lost", [False, True], ids=["moved", "lost"])
def test_the_best_checkpoint_is_found_where_the_output_folder_was_moved_to(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    from model_garden_trainer.exports import adapter

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    part = {"validationFraction": 0.3, "hyperparameters": {"maxSteps": 2, "evalSteps": 1}}
    give_losses(monkeypatch, lambda step: step)  # worse at each step
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(adapter, "save", killed)
        workspace.train(config("a", TEXT, QUICK, part, {"outputDir": "./models/before"}))
    moved = workspace.folder / "models/after"
    (workspace.folder / "models/before").rename(moved)
    if lost:
        shutil.rmtree(moved / "checkpoints/checkpoint-1")
    outcome, told = workspace.train(config("a", TEXT, QUICK, part, {"outputDir": "./models/after"}))
    assert outcome.output is not None
    assert (outcome.output.best_step, outcome.output.best_eval_loss) == ((None, None) if lost else (1, 1.0))
    assert [message for message in told.warnings if "lowest validation loss (1.0000) is missing" in message] == (
        told.warnings if lost else []
    )
    assert bool(told.warnings) is lost


@pytest.mark.parametrize(
    ("drained", "better"),
    [(False, True), (False, False), (True, True)],
    ids=["better", "worse", "better, asked while no pod ran"],
)
def test_stop_and_save_evaluates_the_step_and_keeps_the_better_weights(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, drained: bool, better: bool
) -> None:
    give_losses(monkeypatch, lambda step: 10 - step if better else step)
    job = config("early", TEXT, QUICK, {"validationFraction": 0.3, "hyperparameters": {"maxSteps": 9, "evalSteps": 3}})
    annotations = workspace.folder / "podinfo" / "annotations"
    annotations.parent.mkdir()
    requests, last = StopRequests(), 4
    if drained:
        with pytest.raises(Stopped):
            workspace.train(job, requests=requests, on_event=stop_at(3, requests))
        requests, last = StopRequests(), 5

    def ask(event: Event) -> None:
        if drained or (isinstance(event, ProgressEvent) and event.progress.step == 3):
            annotations.write_text('model-garden.dev/stop="save"\n')

    outcome, told = workspace.train(job, requests=requests, on_event=ask)
    assert outcome.output is not None and outcome.stopped_early
    assert (outcome.output.trained_steps, list(told.eval_losses)) == (last, [last] if drained else [3, last])
    assert outcome.output.best_step == (last if better else 3)
