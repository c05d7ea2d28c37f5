"""4 and 8 bit: what bitsandbytes is told to leave alone, on the models that transformers builds."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.quantizers.quantizers_utils import should_convert_module

from model_garden.estimate.formulas import quantized
from model_garden.estimate.model_shape import read_model
from model_garden_trainer.models import loftq
from model_garden_trainer.models.lora import layers
from model_garden_trainer.models.quantized import quantization_config
from testing.model_configs import LLAMA_3_1_8B, OTHERS, QWEN2_5_VL_7B, QWEN3_VL_4B
from tests.estimate.test_model_shape import on_meta
from tests.tiny import tiny_model
from tests.trainer.test_unsloth import UNSLOTH_PYTHON

__all__ = ["tiny_model"]

SEEING = [config for _, config in OTHERS if "vision_config" in config]


@pytest.mark.parametrize("kind", ["4bit", "8bit"])
@pytest.mark.parametrize("config", [QWEN2_5_VL_7B, QWEN3_VL_4B, LLAMA_3_1_8B, *SEEING], ids=lambda c: c["model_type"])
def test_head_vision_tower_and_connector_stay_in_16_bit_and_the_estimate_knows(
    kind: str, config: dict[str, Any]
) -> None:
    asked = quantization_config(kind)
    linears, _ = layers(on_meta(config))
    converted = {name for name in linears if should_convert_module(name, asked.llm_int8_skip_modules)}
    layers_of_language = {name for name in linears if ".layers." in name and "vision" not in name}
    assert converted == {name for name in layers_of_language if "visual" not in name} != set()
    counted = {module.name for module in read_model(config).modules if quantized(module)}
    assert {name.partition(".layers.")[2] for name in counted} == {name.partition(".layers.")[2] for name in converted}


def test_4_bit_is_what_qlora_is() -> None:
    asked = quantization_config("4bit")
    assert asked.bnb_4bit_quant_type == "nf4" and asked.bnb_4bit_use_double_quant
    assert asked.bnb_4bit_compute_dtype == torch.bfloat16


@pytest.mark.known_fault("huggingface/peft#2321", "A merge into 4-bit weights rounds the adapter away")
@pytest.mark.known_fault("huggingface/peft#1043", "A merge into 4-bit weights rounds the adapter away")
@pytest.mark.train
@pytest.mark.skipif(not UNSLOTH_PYTHON.exists(), reason="needs the environment that `make test` makes for it")
def test_4_bit_layers_are_where_they_should_be_and_merge_into_16_bit(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    """bitsandbytes itself, on a CPU: also a base model that comes in 4 bit, as ``…-bnb-4bit`` do."""
    done = subprocess.run(
        [str(UNSLOTH_PYTHON), "-m", "tests.trainer.four_bit_on_cpu", str(tiny_model("qwen2_5_vl")), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["layers"]) == 2 * 7 and not any("visual" in name or "lm_head" in name for name in found["layers"])
    assert found["embeddings"] == "torch.bfloat16"
    assert found["dtypes"] == ["BF16"]
    assert found["off"] < 0.1 * found["learned"]
    assert found["precision"] == "4 bit"
    loftq = found["loftq"]
    assert loftq["started"] < 0.9 * loftq["rounded"], "the adapters give back a part of what rounding took"
    assert loftq["off"] < 1e-4 < loftq["learned"] and loftq["rank"] == 16, "and are right on the 16-bit base model"


def test_a_rank_above_a_side_of_the_layer_still_gives_the_weight() -> None:
    weight = torch.randn(8, 64)
    down, up = loftq.halves(weight, 16)
    assert (down.shape, up.shape) == ((16, 64), (8, 16))
    assert torch.allclose(up @ down, weight, atol=1e-5)
