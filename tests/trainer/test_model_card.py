"""What the card of a model says about it."""

from __future__ import annotations

from typing import Any

from model_garden.contract.status import DatasetStatus, OutputStatus
from model_garden_trainer.exports.model_card import model_card
from tests.trainer.workspace import QUICK, TEXT, config

OUTPUT = {"path": "./models/a", "adapterPath": "./models/a", "modelClass": "AutoModelForCausalLM", "trainedSteps": 5}
RECORD = {
    "backend": {"name": "transformers", "reason": "no GPU"},
    "batch": {"microBatch": 2, "accumulation": 2, "processes": 1},
    "verification": {},
}


def card(spec: dict[str, Any] | None = None, output: dict[str, Any] | None = None, **record: Any) -> str:
    return model_card(
        config("a", TEXT, QUICK, spec or {}),
        DatasetStatus(rows=10),
        OutputStatus.model_validate(OUTPUT | (output or {})),
        RECORD | record,
    )


def test_the_rows_of_a_step_are_those_of_all_processes() -> None:
    assert "| Steps | 5 of 2 x 2 rows |" in card()
    batch = RECORD["batch"] | {"processes": 4}
    assert "| Steps | 5 of 2 x 2 rows in each of 4 processes |" in card(batch=batch)
