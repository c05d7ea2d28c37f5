"""Which layers are adapted: what the switches say, and the vision tower only when asked."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
from trl.models.utils import disable_gradient_checkpointing

from model_garden.contract.defaults import effective_spec
from model_garden.contract.options import LoraConfig
from model_garden.contract.spec import EffectiveSpec, TrainingJobSpec
from model_garden.datasets import open_examples
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.models import auto_classes
from model_garden_trainer.models.backends.transformers import add_lora, recompute_layers
from model_garden_trainer.models.lora import choose, layers, pattern
from tests.trainer.workspace import DATA

LANGUAGE, VISION = "model.language_model.layers.0", "model.visual.blocks.0"
LINEARS = [
    *(f"{LANGUAGE}.self_attn.{name}_proj" for name in "qkvo"),
    *(f"{LANGUAGE}.mlp.{name}_proj" for name in ("gate", "up", "down")),
    f"{VISION}.attn.qkv",
    f"{VISION}.attn.proj",
    *(f"{VISION}.mlp.{name}_proj" for name in ("gate", "up", "down")),
    "model.visual.merger.mlp.0",
    "lm_head",
]
ON = {"finetuneLanguageLayers": True, "finetuneAttentionModules": True, "finetuneMlpModules": True}


def lora(**switches: Any) -> LoraConfig:
    return LoraConfig.model_validate(ON | {"r": 4, "loraAlpha": 4, "loraDropout": 0.0} | switches)


@pytest.mark.parametrize(
    ("switches", "targets", "excluded"),
    [
        ({}, ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"], r"(model\.visual)(\..*)?"),
        ({"finetuneMlpModules": False}, ["k_proj", "o_proj", "q_proj", "v_proj"], None),
        ({"finetuneAttentionModules": False}, ["down_proj", "gate_proj", "up_proj"], r"(model\.visual)(\..*)?"),
        (
            {"finetuneVisionLayers": True, "finetuneLanguageLayers": False, "finetuneMlpModules": False},
            ["proj", "qkv"],
            None,
        ),
        (
            {"finetuneVisionLayers": True, "finetuneLanguageLayers": False},
            ["down_proj", "gate_proj", "proj", "qkv", "up_proj"],
            r"(model\.language_model)(\..*)?",
        ),
        ({"targetModules": ["q_proj"]}, ["q_proj"], None),
    ],
)
def test_the_switches_choose_layers(switches: dict[str, Any], targets: list[str], excluded: str | None) -> None:
    assert choose(LINEARS, lora(**switches)) == (targets, excluded)


def test_a_name_that_matches_nothing_is_refused_with_names_that_exist() -> None:
    with pytest.raises(TrainingError, match=r"'query'.*there are down_proj, gate_proj") as raised:
        choose(LINEARS, lora(targetModules=["q_proj", "query"]))
    assert raised.value.exit_code == 2
    with pytest.raises(TrainingError, match="'qkv'"):  # only the vision tower has it, which is not asked for
        choose(LINEARS, lora(targetModules=["qkv"]))


def test_other_families_name_their_layers_otherwise() -> None:
    gpt2 = ["transformer.h.0.attn.c_attn", "transformer.h.0.mlp.c_fc", "lm_head"]
    assert choose(gpt2, lora())[0] == ["c_attn", "c_fc"]
    gemma = ["model.vision_tower.encoder.layers.0.self_attn.q_proj", "model.language_model.layers.0.self_attn.q_proj"]
    assert choose(gemma, lora()) == (["q_proj"], r"(model\.vision_tower)(\..*)?")


def effective(vision: bool, config: LoraConfig) -> EffectiveSpec:
    given = TrainingJobSpec(base_model="./m", dataset_path="./d.jsonl", is_vision=vision, lora_config=config)
    return effective_spec(given, "job", local_gpus=0)


@pytest.mark.parametrize("sees", [False, True], ids=["language", "language and vision"])
@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl", "qwen2", "llama"])
def test_adapters_stand_where_they_are_asked_for(tiny_model: Callable[[str], Path], kind: str, sees: bool) -> None:
    vision = "vl" in kind
    if sees and not vision:
        return
    auto = AutoModelForImageTextToText if vision else AutoModelForCausalLM
    spec = effective(vision, lora(**({"finetuneVisionLayers": sees} if vision else {})))
    model = add_lora(auto.from_pretrained(tiny_model(kind), dtype=torch.float32), spec)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    assert any("visual" in name for name in trained) == sees
    assert len([n for n in trained if "visual" not in n]) == 2 * 2 * 7  # A and B, two layers, seven projections
    assert not any("merger" in name or "lm_head" in name for name in trained)
    assert not any("patch_embed" in name for name in trained)  # a convolution named as the attention's projection


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("switches", [{}, {"targetModules": ["proj"]}], ids=["all", "by name"])
def test_only_linear_layers_are_adapted_by_either_backend(
    tiny_model: Callable[[str], Path], kind: str, switches: dict[str, Any]
) -> None:
    model = AutoModelForImageTextToText.from_pretrained(tiny_model(kind), dtype=torch.float32)
    linears, others = layers(model)
    assert any(name.endswith("patch_embed.proj") for name in others)
    targets, excluded = choose(linears, lora(finetuneVisionLayers=True, **switches), others)
    matched = {name for name, _ in model.named_modules() if re.fullmatch(pattern(targets, excluded), name)}
    assert matched and matched <= set(linears)


def gradients(model: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    model.train()
    model(**batch).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("sees", [False, True], ids=["frozen tower", "adapted tower"])
def test_recomputing_layers_changes_no_gradient_and_leaves_a_frozen_tower_alone(
    tiny_model: Callable[[str], Path], kind: str, sees: bool
) -> None:
    spec = effective(True, lora(finetuneVisionLayers=sees))
    model = add_lora(AutoModelForImageTextToText.from_pretrained(tiny_model(kind), dtype=torch.float32), spec)
    with torch.no_grad():  # adapters as after some steps: the first B is zero, and so is the gradient of A
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    encoder = auto_classes.collator(spec, tiny_model(kind))
    batch = encoder([open_examples(DATA / "vision_test_dataset.jsonl", vision=True)[0]])
    plain = gradients(model, batch)
    model.zero_grad()

    blocks, ran = model.get_base_model().model.visual.blocks, []
    for block in blocks:
        block.register_forward_pre_hook(lambda module, inputs: ran.append(module))
    recompute_layers(model)
    with disable_gradient_checkpointing(model):
        pass  # as TRL does around the pass of a reference
    assert not any(module._forward_hooks for module in model.modules())  # none asks for the gradient of an input
    recomputed = gradients(model, batch)
    assert recomputed.keys() == plain.keys()
    assert all(torch.equal(plain[name], recomputed[name]) for name in plain)
    assert any("visual" in name for name in plain) == sees
    assert len(ran) == len(blocks) * (2 if sees else 1)  # the forward pass, and once more where there is a gradient
