"""Runs of KTO and ORPO on a tiny model: what they learn and what carries loss; they stop and resume as others do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from model_garden_trainer.errors import TrainingError
from tests.trainer.preferences import assert_a_resumed_run_equals, preference_rows, write_rows
from tests.trainer.workspace import TEXT, Workspace, config

pytestmark = pytest.mark.train

JOB: dict[str, Any] = {
    "datasetPath": "./data/rows.jsonl",
    "hyperparameters": {
        "learningRate": 5e-3, "batchSize": 4, "gradientAccumulationSteps": 1, "maxSteps": 12, "evalSteps": 6,
        "loggingSteps": 1, "saveSteps": 100, "lrSchedulerType": "constant",
    },
    "loraConfig": {"r": 8, "loraAlpha": 16},
    "validationFraction": 0.2,
    "saveMethod": "merged_16bit",
}  # fmt: skip
LABELED = [
    {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
    for row in preference_rows(10)
    for side in ("chosen", "rejected")
]
ROWS = {"kto": LABELED, "orpo": preference_rows(20)}


@pytest.mark.parametrize("method", ["kto", "orpo"])
def test_a_text_model_learns_and_a_resumed_run_equals_an_unbroken_one(workspace: Workspace, method: str) -> None:
    write_rows(workspace.folder / "data/rows.jsonl", ROWS[method])
    job = {"method": method}
    outcome, _ = workspace.train(config("whole", TEXT, JOB, job))
    assert outcome.result == "Succeeded" and outcome.output is not None and outcome.output.verified
    first, *_, last = [line["metrics"] for line in workspace.metrics("whole") if "loss" in line]
    assert outcome.progress is not None and outcome.progress.metrics is not None
    if method == "kto":
        assert last["rewards/margins"] > first["rewards/margins"] + 1 and "kl" in last
        assert outcome.progress.metrics["eval_rewards/margins"] > 1
    else:
        assert last["log_odds_chosen"] > first["log_odds_chosen"] + 1 and last["rewards/accuracies"] > 0.9
        assert outcome.progress.metrics["eval_rewards/accuracies"] > 0.9

    assert_a_resumed_run_equals(workspace, "whole", config("broken", TEXT, JOB, job))


def test_the_batches_are_those_that_trl_wants_and_the_answers_alone_carry_loss(workspace: Workspace) -> None:
    from model_garden_trainer.batches.splits import open_data
    from model_garden_trainer.methods.kto import LabelCollator
    from model_garden_trainer.methods.orpo import OddsCollator
    from model_garden_trainer.models import auto_classes

    def spoken(ids: torch.Tensor, mask: torch.Tensor) -> list[str]:
        return [tokens.decode(row[kept.bool()]) for row, kept in zip(ids, mask, strict=True)]

    write_rows(workspace.folder / "data/rows.jsonl", LABELED[:2])
    kto = config("kto", TEXT, {"method": "kto", "datasetPath": "./data/rows.jsonl"}).spec
    encoder = auto_classes.collator(kto, Path(kto.base_model))
    tokens = encoder.tokenizer
    rows = list(open_data(kto, 1).training)
    batch = LabelCollator(encoder, tuple(rows))(rows)
    end = tokens.eos_token
    assert spoken(batch["input_ids"], batch["completion_mask"]) == [f"red{end}", f"I do not want to say.{end}"]
    assert spoken(batch["KL_input_ids"], batch["KL_completion_mask"]) == [f"I do not want to say.{end}", f"red{end}"]
    assert batch["label"].tolist() == [True, False]
    batch = LabelCollator(encoder, tuple(rows))(rows[:1])  # the last batch of the data may have one row
    assert spoken(batch["KL_input_ids"], batch["KL_completion_mask"]) == [f"I do not want to say.{end}"]

    write_rows(workspace.folder / "data/rows.jsonl", preference_rows(1))
    orpo = config("orpo", TEXT, {"method": "orpo", "datasetPath": "./data/rows.jsonl"}).spec
    batch = OddsCollator(encoder)(list(open_data(orpo, 1).training))
    assert spoken(batch["input_ids"], batch["labels"] != -100) == [f"red{end}", f"I do not want to say.{end}"]
    assert spoken(batch["input_ids"], batch["read_labels"] != -100)[0] == f"Name color 0.red{end}"


def test_a_label_that_is_neither_true_nor_false_is_refused(workspace: Workspace) -> None:
    write_rows(workspace.folder / "data/rows.jsonl", [{"prompt": "Hi", "completion": "Ho", "label": "good"}] * 9)
    with pytest.raises(TrainingError, match=r'row 1: "label" is text \(\'good\'\); write true for a wanted answer'):
        workspace.train(config("labels", TEXT, JOB, {"method": "kto"}))
