"""The mixin on a trainer of TRL other than the one that a run uses: what a new training method would inherit."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from model_garden.contract.options import EffectiveHealth
from model_garden.contract.progress import Event, WarningEvent
from model_garden_trainer.engine.clock import PARTS
from model_garden_trainer.engine.instrumented import Instrumented
from model_garden_trainer.errors import TrainingError

pytestmark = pytest.mark.train


class InstrumentedDPO(Instrumented, DPOTrainer):
    """Preference tuning with the clock and the guards of every method."""


@pytest.fixture
def preferences(tmp_path: Path, tiny_model: Any) -> Any:
    """Makes a trainer of three steps on a tiny model, which collects its events."""

    def make(health: dict[str, Any], events: list[Event]) -> InstrumentedDPO:
        folder = tiny_model("qwen2")
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), LoraConfig(target_modules="all-linear"))
        rows = [{"prompt": f"Say {n}.", "chosen": f"{n}", "rejected": "No."} for n in range(12)]
        args = DPOConfig(
            output_dir=str(tmp_path / "out"), max_steps=3, per_device_train_batch_size=2, learning_rate=1e-3,
            gradient_accumulation_steps=2, logging_steps=1, save_strategy="no", report_to="none", use_cpu=True,
            bf16=False, gradient_checkpointing=False, disable_tqdm=True,
        )  # fmt: skip
        return InstrumentedDPO(
            model=model,
            args=args,
            health=EffectiveHealth.model_validate({"stepSeconds": 9, "firstStepSeconds": 9} | health),
            report=events.append,
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(folder),
        )

    return make


def test_another_method_gets_the_clock_and_the_figures_of_a_report(preferences: Any) -> None:
    trainer = preferences({"nonFiniteLoss": "Fail"}, [])
    leaf, walks = trainer.model.get_base_model().lm_head, []
    leaf.train = walks.append
    assert trainer.model.training and not leaf.training
    with trainer.without_walks():
        trainer.train()
        trainer.model.eval()
    assert walks == [True, False], "each change of the mode reaches every module, and no batch does so again"
    assert "train" not in vars(trainer.model)
    window = trainer.window
    assert window.steps == 3 and window.samples >= 12 and window.tokens > window.samples
    assert window.loss / window.steps == pytest.approx(math.log(2), abs=0.1)  # what DPO's loss begins with
    spent = trainer.clock.take()
    assert all(spent[part] > 0 for part in PARTS if part != "optimizer")


class Reached(torch.nn.Module):
    """A model whose own ``for_training``, as Unsloth's, sets the mode along ``model`` before it asks for the walk."""

    def __init__(self) -> None:
        super().__init__()
        self.model = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Dropout(0.1)))

    def for_training(self) -> None:
        self.training = self.model.training = True
        self.train()


def test_answers_leave_every_layer_to_be_put_in_training_mode_again() -> None:
    model = Reached()
    with Instrumented.without_walks(SimpleNamespace(model=model)):  # type: ignore[arg-type]
        model.eval()  # the evaluation
        model.for_training()  # after answers
        model.train()  # the next batch
        assert all(module.training for module in model.modules())


def test_a_loss_that_is_not_finite_stops_it_or_is_skipped(preferences: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    original = DPOTrainer.compute_loss

    def broken(self: Any, *args: Any, **options: Any) -> Any:
        loss = original(self, *args, **options)
        return loss * float("nan") if self.state.global_step == 1 else loss

    monkeypatch.setattr(DPOTrainer, "compute_loss", broken)
    with pytest.raises(TrainingError, match="step 2: the loss is nan") as raised:
        preferences({"nonFiniteLoss": "Fail"}, []).train()
    assert raised.value.reason == "LossIsNaN"
    events: list[Event] = []
    trainer = preferences({"nonFiniteLoss": "Skip"}, events)
    trainer.train()
    assert trainer.state.global_step == 3 and trainer.skipped_updates == 1
    assert [event.message for event in events if isinstance(event, WarningEvent)] == [
        "step 2: the loss is nan and the gradient norm nan; update skipped"
    ]
    assert all(bool(torch.isfinite(weight).all()) for weight in trainer.model.parameters())
