"""What the card of a model says about it."""

from __future__ import annotations

from typing import Any

from model_garden.contract.defaults import effective_spec, merge
from model_garden.contract.spec import TrainingJobSpec
from model_garden.contract.status import DatasetStatus, OutputStatus
from model_garden.contract.trainer_config import TrainerConfig
from model_garden_trainer.exports.model_card import model_card
from tests.trainer.workspace import QUICK, TEXT

OUTPUT = {"path": "./models/a", "adapterPath": "./models/a", "modelClass": "AutoModelForCausalLM", "trainedSteps": 5}
RECORD = {
    "backend": {"name": "transformers", "reason": "no GPU"},
    "batch": {"microBatch": 2, "accumulation": 2, "processes": 1},
    "verification": {},
}


def card(spec: dict[str, Any] | None = None, output: dict[str, Any] | None = None, **record: Any) -> str:
    given = TrainingJobSpec.model_validate(merge(TEXT, merge(QUICK, spec or {})))
    return model_card(
        TrainerConfig(name="a", spec=effective_spec(given, "a", local_gpus=1)),
        DatasetStatus(rows=10),
        OutputStatus.model_validate(OUTPUT | (output or {})),
        RECORD | record,
    )


def test_the_rows_of_a_step_are_those_of_all_processes() -> None:
    assert "| Steps | 5 of 2 x 2 rows |" in card()
    batch = RECORD["batch"] | {"processes": 4}
    assert "| Steps | 5 of 2 x 2 rows in each of 4 processes |" in card(batch=batch)


SCORES = {"rows": 2, "totalRows": 2, "datasetPath": "./data/held.jsonl", "scores": [{"metric": "anls", "value": 0.5}]}
QLORA = {"quantization": "4bit", "evaluation": {"datasetPath": "./data/held.jsonl", "metrics": ["anls"]}}


def test_scores_say_in_what_precision_the_answers_were_given() -> None:
    during = [{"step": 3, "scores": {"anls": 0.25}}]
    found = card(QLORA, evaluation=SCORES, evaluationDuringTraining=during, verification={"precision": "4 bit"})
    assert "| Quantization | 4bit in training; 4 bit for the answers below |" in found
    assert "The answers were given with the weights of the base model in 4 bit." in found
    assert "These answers were given with the weights of the base model in 4 bit." in found
    assert "with its weights in 4 bit; with a `quantization_config`, it is loaded so." in found

    merged = QLORA | {"saveMethod": "gguf", "ggufQuantization": "q8_0"}
    made = {"ggufPath": "./models/a/a-q8_0.gguf"}
    found = card(merged, made, evaluation=SCORES, verification={"precision": "16 bit"})
    assert "| Quantization | 4bit in training; 16 bit for the answers below |" in found
    assert (
        "The answers were given with the weights of the base model in 16 bit. The export by gguf holds its weights "
        "otherwise, and was not scored itself." in found
    )
    assert "quantization_config" not in found


def test_attempts_with_other_metrics_share_the_table_of_scores_during_training() -> None:
    during = [
        {"step": 1, "scores": {"anls": 0.25, "similarity": 0.5}},
        {"step": 2, "scores": {"anls": 0.5}},
        {"step": 3, "scores": {"exact_match": 1.0}},
    ]
    found = card(evaluationDuringTraining=during)
    assert "| step | anls | similarity | exact_match |\n|---|---|---|---|\n| 1 | 0.2500 | 0.5000 | - |\n" in found
    assert "| 2 | 0.5000 | - | - |\n| 3 | - | - | 1.0000 |" in found
