"""Runs of DPO on tiny models: what they learn and what carries loss; they stop, resume and export as others do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from model_garden_trainer.errors import TrainingError
from tests.trainer.preferences import assert_a_resumed_run_equals, preference_rows, write_rows
from tests.trainer.workspace import TEXT, Workspace, config

pytestmark = pytest.mark.train

DPO: dict[str, Any] = {
    "method": "dpo",
    "datasetPath": "./data/preferences.jsonl",
    "hyperparameters": {
        "learningRate": 5e-3, "batchSize": 2, "gradientAccumulationSteps": 2, "maxSteps": 12, "evalSteps": 4,
        "loggingSteps": 1, "saveSteps": 100, "lrSchedulerType": "constant",
    },
    "loraConfig": {"r": 8, "loraAlpha": 16},
    "validationFraction": 0.2,
}  # fmt: skip


def own(workspace: Workspace, name: str) -> list[dict[str, float]]:
    """The method's figures of each report of training."""
    return [line["metrics"] for line in workspace.metrics(name) if "loss" in line]


def test_a_text_model_learns_what_is_preferred_and_is_exported(workspace: Workspace) -> None:
    write_rows(workspace.folder / "data/preferences.jsonl", preference_rows(20))
    outcome, told = workspace.train(config("prefers", TEXT, DPO, {"saveMethod": "merged_16bit"}), sample_rows=10)
    assert outcome.result == "Succeeded" and outcome.output is not None and outcome.output.verified
    first, *_, last = own(workspace, "prefers")
    assert last["rewards/margins"] > first["rewards/margins"] + 1 and last["rewards/accuracies"] > 0.9
    losses = list(told.losses.values())
    assert losses[0] == pytest.approx(math.log(2), abs=1e-5)  # as of a model without any preference
    assert losses[-1] < losses[0]
    assert outcome.progress is not None and outcome.progress.metrics is not None
    assert outcome.progress.metrics["eval_rewards/accuracies"] > 0.9
    assert outcome.output.samples is not None and outcome.output.samples.train.rows == 10
    assert {path.name for path in (workspace.folder / "models/prefers").iterdir() if path.is_dir()} >= {"merged"}
    assert not any(path.is_dir() and path.name == "ref" for path in (workspace.folder / "models/prefers").iterdir())
    assert "| Method | dpo" in (workspace.folder / "models/prefers/README.md").read_text()


@pytest.mark.parametrize("start", ["default", "orthogonal"])
def test_stop_and_resume_equal_an_unbroken_run_exactly(workspace: Workspace, start: str) -> None:
    """Also where the adapter is not 0 at first, so that a copy of it is the reference."""
    write_rows(workspace.folder / "data/preferences.jsonl", preference_rows(20))
    adapter = {"loraDropout": 0.1, "initLoraWeights": start}
    steps = {"hyperparameters": {"maxSteps": 6, "loggingSteps": 2}, "loraConfig": adapter}
    workspace.train(config("whole", TEXT, DPO, steps))
    assert_a_resumed_run_equals(workspace, "whole", config("broken", TEXT, DPO, steps))


def test_each_row_of_a_step_counts_the_same_in_a_smaller_last_micro_batch_too(workspace: Workspace) -> None:
    write_rows(workspace.folder / "data/preferences.jsonl", preference_rows(6))  # five to train on
    norms = []
    for name, rows, times in (("at-once", 5, 1), ("split", 2, 3)):
        steps = {"hyperparameters": {"maxSteps": 1, "batchSize": rows, "gradientAccumulationSteps": times}}
        workspace.train(config(name, TEXT, DPO, steps))
        norms += [line["gradNorm"] for line in workspace.metrics(name) if "loss" in line]
    assert len(norms) == 2 and norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_prompt_and_answers_are_rendered_as_for_sft_and_the_answers_alone_carry_loss(workspace: Workspace) -> None:
    from model_garden_trainer.batches.splits import open_data
    from model_garden_trainer.methods.dpo import PairCollator
    from model_garden_trainer.models import auto_classes

    asked = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    prompt = [*asked, {"role": "user", "content": "Which color?"}]
    answer = {"role": "assistant", "content": "Red."}
    write_rows(
        workspace.folder / "data/preferences.jsonl",
        [{"prompt": prompt, "chosen": [answer], "rejected": [{"role": "assistant", "content": "Blue, I think."}]}],
    )
    write_rows(workspace.folder / "data/chat.jsonl", [{"messages": [*prompt, answer]}])
    spec = config("masks", TEXT, {"method": "dpo", "datasetPath": "./data/preferences.jsonl"}).spec
    encoder = auto_classes.collator(spec, Path(spec.base_model))
    batch = PairCollator(encoder)([open_data(spec, 1).training[0]])
    sft = config("chat", TEXT, {"datasetPath": "./data/chat.jsonl"}).spec
    chat = encoder([open_data(sft, 1).training[0]])["input_ids"][0]
    chosen, rejected = batch["input_ids"]
    assert chosen[: len(chat)].tolist() == chat.tolist() and not batch["attention_mask"][0, len(chat) :].any()
    trained = [
        encoder.tokenizer.decode(ids[mask.bool()])
        for ids, mask in zip(batch["input_ids"], batch["completion_mask"], strict=True)
    ]
    assert trained == ["Red.<|im_end|>", "Blue, I think.<|im_end|>"]
    assert set(batch) == {"input_ids", "attention_mask", "completion_mask"} and len(rejected) == len(chosen)


def test_rows_of_another_method_are_refused(workspace: Workspace) -> None:
    with pytest.raises(TrainingError, match=r"row 1: the row is for method: sft .* the job has method: dpo") as raised:
        workspace.train(config("wrong", TEXT, DPO, {"datasetPath": TEXT["datasetPath"]}))
    assert raised.value.reason == "InvalidDataset"
