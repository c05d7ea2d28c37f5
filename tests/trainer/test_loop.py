"""The loop: in which precision it computes, what an evaluation says, and what a row does that fails in mid-training."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
import torch

from model_garden.contract.progress import Event, ProgressEvent
from model_garden_trainer.batches import splits
from model_garden_trainer.engine import arguments, checkpoints
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.methods import finished_batches, sft
from tests.trainer.workspace import QUICK, TEXT, VISION, Workspace, config

pytestmark = pytest.mark.train


def test_a_gpu_computes_in_bfloat16_and_a_cpu_in_the_weights_dtype() -> None:
    assert arguments.precision(gpu=True) == {"use_cpu": False, "bf16": True, "fp16": False}
    assert arguments.precision(gpu=False) == {"use_cpu": True, "bf16": False, "fp16": False}


def test_under_autocast_no_input_of_an_adapted_layer_is_copied_to_float32(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's settings, on a CPU."""
    monkeypatch.setattr(arguments, "precision", lambda *, gpu: {"use_cpu": True, "bf16": True, "fp16": False})
    given: set[torch.dtype] = set()
    original = sft.TextTrainer.training_step

    def watched(self: Any, model: Any, *inputs: Any) -> Any:
        hooks = [
            module.register_forward_pre_hook(lambda _, inputs: given.add(inputs[0].dtype))
            for name, module in model.named_modules()
            if name.endswith("lora_A.default") and ".q_proj." in name
        ]
        assert hooks and all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
        loss = original(self, model, *inputs)
        for hook in hooks:
            hook.remove()
        return loss

    monkeypatch.setattr(sft.TextTrainer, "training_step", watched)
    half = {"quantization": "16bit", "validationFraction": 0.25, "hyperparameters": {"maxSteps": 12, "evalSteps": 6}}
    _, told = workspace.train(config("mixed", VISION, QUICK, half))
    assert given == {torch.bfloat16}
    losses = list(told.losses.values())
    assert losses[-1] < losses[0] and len(told.eval_losses) == 2
    assert {value.dtype for value in workspace.adapter("mixed").values()} == {torch.float32}


def test_an_evaluation_counts_every_trained_token_alike_however_rows_are_batched(workspace: Workspace) -> None:
    """Answers of very different lengths: a mean of the batches' means would differ with the batch size."""
    rows = [{"prompt": f"Say {n}", "completion": "word " * n} for n in (1, 40, 2, 30, 3, 20, 4)]
    (workspace.folder / "data/uneven.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def losses(batch: int) -> list[float]:
        part = {
            "validationDatasetPath": "./data/uneven.jsonl",
            "hyperparameters": {
                "maxSteps": 2, "evalSteps": 1, "batchSize": batch, "gradientAccumulationSteps": 4 // batch,
            },
        }  # fmt: skip
        return list(workspace.train(config(f"by{batch}", TEXT, QUICK, part))[1].eval_losses.values())

    one = losses(1)
    assert losses(2) == pytest.approx(one, rel=1e-5)
    assert losses(4) == pytest.approx(one, rel=1e-5)


def test_a_row_that_fails_in_mid_training_is_named_and_the_last_checkpoint_kept(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture goes after all rows were checked; batches are made in a worker, as on a GPU."""
    monkeypatch.setattr(finished_batches, "workers", lambda *_: 1)
    lines = (workspace.folder / "data/vision_test_dataset.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    shutil.copy(workspace.folder / "data" / rows[3]["image"], workspace.folder / "data/goes.png")
    rows[3]["image"] = "goes.png"
    (workspace.folder / "data/goes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def take_away(event: Event) -> None:
        if isinstance(event, ProgressEvent) and event.progress.step == 2:
            (workspace.folder / "data/goes.png").unlink(missing_ok=True)

    h = {"numEpochs": 9, "saveSteps": 1, "batchSize": 2, "gradientAccumulationSteps": 1}
    job = config("late", VISION, QUICK, {"datasetPath": "./data/goes.jsonl", "hyperparameters": h})
    with pytest.raises(TrainingError, match=r"goes\.jsonl row 4: .*goes\.png") as raised:
        workspace.train(job, on_event=take_away)
    assert raised.value.reason == "InvalidDataset" and raised.value.exit_code == 3
    kept = checkpoints.newest(workspace.folder / "models/late/checkpoints")
    assert kept is not None and kept.step >= 2


def test_a_row_that_cannot_be_encoded_and_was_not_among_those_tried_first_is_named_too(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model_garden_trainer.batches.collator import Collator

    monkeypatch.setattr(splits, "ENCODED", 2)
    original = Collator._check

    def strict(self: Any, example: Any, *rest: Any) -> None:
        if str(example.origin).endswith("row 4"):
            raise TrainingError("InvalidDataset", f"{example.origin}: no token of the answer is left to train on")
        original(self, example, *rest)

    monkeypatch.setattr(Collator, "_check", strict)
    with pytest.raises(TrainingError, match="row 4: no token") as raised:
        workspace.train(config("strict", VISION, QUICK))
    assert raised.value.exit_code == 3


def test_the_batch_is_tried_the_way_training_goes_and_before_any_step(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits are computed for trained tokens alone, and memory that only a whole step needs halves the batch too."""
    widths: list[int] = []
    sizes: list[int] = []
    original = sft.TextTrainer.compute_loss

    def seen(self: Any, model: Any, inputs: Any, return_outputs: bool = False, **options: Any) -> Any:
        loss, outputs = original(self, model, inputs, return_outputs=True, **options)
        widths.append(outputs.logits.shape[1] / inputs["input_ids"].shape[1])
        sizes.append(len(inputs["input_ids"]))
        return (loss, outputs) if return_outputs else loss

    def short_of_memory(self: Any, *args: Any, **options: Any) -> Any:
        if self.args.per_device_train_batch_size == 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return norm(self, *args, **options)

    norm = sft.TextTrainer._get_grad_norm
    monkeypatch.setattr(sft.TextTrainer, "compute_loss", seen)
    monkeypatch.setattr(sft.TextTrainer, "_get_grad_norm", short_of_memory)
    h = {"maxSteps": 2, "batchSize": 2, "gradientAccumulationSteps": 2, "autoBatchSize": True}
    _, told = workspace.train(config("auto", VISION, QUICK, {"hyperparameters": h}))
    assert sizes[:3] == [4, 4, 2] and max(widths) < 0.5  # tried, trained, trained in smaller batches
    assert "continues with batches of 2" in told.warnings[0]
    assert workspace.record("auto")["batch"]["microBatch"] == 2


def test_packed_rows_that_do_not_fit_are_taken_fewer_at_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = sft.TextTrainer.compute_loss

    def short_of_memory(self: Any, model: Any, inputs: Any, *rest: Any, **options: Any) -> Any:
        if inputs["input_ids"].numel() > 512:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, model, inputs, *rest, **options)

    h = {"maxSteps": 2, "batchSize": 4, "gradientAccumulationSteps": 2, "packing": True, "maxSeqLength": 256}
    _, plain = workspace.train(config("plain", VISION, QUICK, {"hyperparameters": h}))
    monkeypatch.setattr(sft.TextTrainer, "compute_loss", short_of_memory)
    h["autoBatchSize"] = True
    _, told = workspace.train(config("short", VISION, QUICK, {"hyperparameters": h}))
    assert "continues with batches of 2" in told.warnings[0]
    assert list(told.losses.values()) == pytest.approx(list(plain.losses.values()), abs=1e-4)
