"""What a job will need, before it exists."""

from __future__ import annotations

from typing import Any

import pytest

from model_garden.contract.defaults import effective_spec
from model_garden.contract.resource import parse_spec
from model_garden.services.planning import planned_steps


@pytest.mark.parametrize(
    ("rows", "spec", "steps"),
    [
        (10, {}, 6),  # 1 x 8 rows a step: 2 steps in each of 3 epochs
        (8, {}, 3),
        (10, {"hyperparameters": {"numEpochs": 0.5}}, 1),
        (10, {"hyperparameters": {"maxSteps": 4}}, 4),
        (10, {"validationFraction": 0.2}, 3),
        (100, {"numNodes": 2}, 21),
        # 1 x 8 answers a step, 4 for each prompt
        (10, {"method": "grpo", "grpo": {"numGenerations": 4}, "rewards": {"functions": ["similarity"]}}, 15),
    ],
)
def test_steps_follow_rows_batch_and_epochs(rows: int, spec: dict[str, Any], steps: int) -> None:
    given = {"baseModel": "a/b", "datasetPath": "./data/rows.jsonl", "isVision": True} | spec
    assert planned_steps(effective_spec(parse_spec(given), "job"), rows) == steps
