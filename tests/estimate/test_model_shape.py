"""Parameter counts from a config alone, against the models that transformers and peft build from it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from model_garden.contract.options import LoraConfig
from model_garden.estimate.formulas import adapted_modules, lora_parameters
from model_garden.estimate.image_tokens import most_picture_tokens, smart_resize
from model_garden.estimate.model_shape import read_model
from testing.model_configs import (
    EXACT,
    LLAMA_3_1_8B,
    OTHERS,
    PHI_3_MINI,
    QWEN2_5_VL_3B,
    QWEN2_5_VL_7B,
    QWEN3_VL_4B,
)
from tests.tiny import tiny_model

__all__ = ["tiny_model"]


def on_meta(config: dict[str, Any]) -> Any:
    """The model of ``config`` on torch's meta device: shapes without numbers."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    auto = AutoModelForImageTextToText if "vision_config" in config else AutoModelForCausalLM
    with torch.device("meta"):
        return auto.from_config(AutoConfig.for_model(**json.loads(json.dumps(config))))


def sizes(model: Any) -> Counter[str]:
    """Parameters by the name of the module that holds them."""
    counted: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        counted[name.rpartition(".")[0]] += parameter.numel()
    return counted


@pytest.mark.parametrize(("name", "config", "billions"), EXACT, ids=[name for name, *_ in EXACT])
def test_every_module_has_the_name_and_size_that_transformers_gives_it(
    name: str, config: dict[str, Any], billions: float
) -> None:
    model = read_model(config)
    assert model.approximations == ()
    assert {module.name: module.parameters for module in model.modules} == sizes(on_meta(config))
    assert model.parameters / 1e9 == pytest.approx(billions, rel=0.005)


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl", "qwen2", "llama"])
def test_a_saved_config_reads_like_one_from_the_hub(kind: str, tiny_model: Callable[[str], Path]) -> None:
    config = json.loads((tiny_model(kind) / "config.json").read_text())
    model = read_model(config)
    assert {module.name: module.parameters for module in model.modules} == sizes(on_meta(config))


@pytest.mark.parametrize(("name", "config"), OTHERS, ids=[name for name, _ in OTHERS])
def test_other_families_have_as_many_parameters(name: str, config: dict[str, Any]) -> None:
    assert read_model(config).parameters == sizes(on_meta(config)).total()


def test_an_unknown_family_is_counted_as_llama_with_siglip_and_says_so() -> None:
    model = read_model(QWEN3_VL_4B | {"model_type": "unheard_of", "text_config": {**LLAMA_3_1_8B, "model_type": "new"}})
    assert len(model.approximations) == 3 and model.vision


@pytest.mark.parametrize("vision", [False, True])
@pytest.mark.parametrize(
    "config", [QWEN2_5_VL_3B, QWEN3_VL_4B, LLAMA_3_1_8B, PHI_3_MINI], ids=lambda config: config["model_type"]
)
def test_lora_has_as_many_parameters_as_the_trainer_gives_it(config: dict[str, Any], vision: bool) -> None:
    """peft builds the adapters on the layers that the trainer chooses."""
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model

    from model_garden_trainer.models.lora import choose, layers

    lora = LoraConfig(
        r=8,
        finetune_vision_layers=vision,
        finetune_language_layers=True,
        finetune_attention_modules=True,
        finetune_mlp_modules=not vision,
    )
    model = on_meta(config)
    linears, others = layers(model)
    targets, excluded = choose(linears, lora, others)
    model = get_peft_model(model, PeftLoraConfig(r=8, target_modules=targets, exclude_modules=excluded))
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert lora_parameters(adapted_modules(read_model(config).modules, lora), 8) == trained


def test_target_modules_are_matched_by_whole_names() -> None:
    modules = read_model(QWEN2_5_VL_7B).modules
    only_q = adapted_modules(modules, LoraConfig(r=8, target_modules=["q_proj"]))
    assert {module.name.rpartition(".")[2] for module in only_q} == {"q_proj"}
    assert len(only_q) == 28
    one = adapted_modules(modules, LoraConfig(r=8, target_modules=["layers.3.mlp.up_proj"]))
    assert [module.name for module in one] == ["model.language_model.layers.3.mlp.up_proj"]


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size"])
def test_a_config_without_a_size_is_refused_by_name(key: str) -> None:
    config = {name: value for name, value in LLAMA_3_1_8B.items() if name != key}
    with pytest.raises(ValueError, match=rf"config\.json: {key} is missing"):
        read_model(config)


@pytest.mark.parametrize("value", [0, -1, "4096", 1.5, True])
def test_a_size_that_is_no_positive_number_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"config\.json: hidden_size must be a positive whole number; got"):
        read_model(LLAMA_3_1_8B | {"hidden_size": value})


@settings(max_examples=300, deadline=None)
@given(
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
    factor=st.sampled_from([28, 32]),
    most=st.integers(784, 2**22),
)
def test_pictures_are_resized_as_the_models_own_processor_does(width: int, height: int, factor: int, most: int) -> None:
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize as theirs

    assume(max(width, height) <= 200 * min(width, height))  # others are refused before
    assert smart_resize(width, height, factor, 784, most) == theirs(height, width, factor, 784, most)[::-1]


def test_a_pictures_tokens() -> None:
    qwen, gemma = read_model(QWEN2_5_VL_3B).vision, read_model(OTHERS[0][1]).vision
    assert qwen is not None
    assert gemma is not None
    assert most_picture_tokens(qwen, 224 * 224) == 64
    assert most_picture_tokens(qwen, 1_003_520) == 1280
    assert most_picture_tokens(gemma, 1_003_520) == 256
