"""The disk space that an output needs."""

from __future__ import annotations

from typing import Any

import pytest

from model_garden.contract.memory_estimate import GIB
from model_garden.estimate.disk import output_space
from testing.model_configs import QWEN2_5_7B
from tests.estimate.test_estimate import spec

PARAMETERS = 7.616e9
ADAPTER = 40.37e6
"""Parameters of Qwen2.5-7B, and of its adapter of rank 16 on all linear layers, as peft prints them."""


def space(checkpoints: int = 100, **given: Any) -> dict[str, float]:
    """GiB by part."""
    return {part.name: part.size / GIB for part in output_space(spec(**given), QWEN2_5_7B, checkpoints=checkpoints)}


def test_an_adapter_s_checkpoints_hold_float32_weights_and_the_optimizer() -> None:
    found = space(hyperparameters={"optim": "adamw_torch", "saveTotalLimit": 3})

    assert found == {
        "4 checkpoints": pytest.approx(4 * 3 * 4 * ADAPTER / GIB, rel=0.01),  # weights and two moments
        "the adapter": pytest.approx(4 * ADAPTER / GIB, rel=0.01),
    }


def test_the_best_checkpoint_is_kept_besides_and_a_short_run_writes_fewer() -> None:
    evaluated = {"validationFraction": 0.1}

    assert "4 checkpoints" in space(**evaluated)
    assert "1 checkpoint" in space(1, **evaluated)


@pytest.mark.parametrize(
    ("given", "gib"),
    [
        ({"saveMethod": "merged_16bit"}, 2 * PARAMETERS / GIB),
        ({"saveMethod": "merged_4bit"}, (2 + 5.5 / 8) * PARAMETERS / GIB),
        ({"saveMethod": "gguf"}, (2 + 2 + 4.9 / 8) * PARAMETERS / GIB),
        ({"saveMethod": "gguf", "ggufQuantization": "bf16"}, (2 + 2) * PARAMETERS / GIB),
    ],
)
def test_an_export_needs_the_merged_model_too(given: dict[str, Any], gib: float) -> None:
    whole, adapter = space(**given), space()

    assert sum(whole.values()) - sum(adapter.values()) == pytest.approx(gib, rel=0.01)


def test_full_fine_tuning_writes_whole_models() -> None:
    found = space(2, adapter="none", hyperparameters={"optim": "adamw_torch"})

    assert found["the model"] == pytest.approx(2 * PARAMETERS / GIB, rel=0.01)
    assert found["2 checkpoints"] == pytest.approx(2 * 12 * PARAMETERS / GIB, rel=0.05)
