"""The one table of defaults."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from model_garden.contract.defaults import billions, effective_spec
from model_garden.contract.resource import parse_spec
from tests.contract.cases import BASE
from tests.contract.test_spec import NUMBERS

TABLE: list[tuple[str, dict[str, Any], tuple[int, int, float, int]]] = [
    ("text", {}, (2, 4, 2e-4, 16)),
    ("vision", {"isVision": True}, (1, 8, 2e-5, 16)),
    ("vision by modelType", {"modelType": "vision"}, (1, 8, 2e-5, 16)),
    ("72B vision", {"isVision": True, "baseModel": "Qwen/Qwen2.5-VL-72B-Instruct"}, (1, 16, 1e-5, 32)),
    ("72B text", {"baseModel": "Qwen/Qwen2.5-72B-Instruct"}, (2, 4, 2e-4, 16)),
]


@pytest.mark.parametrize(("changes", "expected"), [case[1:] for case in TABLE], ids=[case[0] for case in TABLE])
def test_batch_accumulation_learning_rate_and_rank(
    changes: dict[str, Any], expected: tuple[int, int, float, int]
) -> None:
    spec = effective_spec(parse_spec(BASE | changes), "job")
    h = spec.hyperparameters
    assert h and spec.lora_config
    assert (h.batch_size, h.gradient_accumulation_steps, h.learning_rate, spec.lora_config.r) == expected


def test_a_gpu_chooses_unsloth_in_4_bit_and_a_cpu_plain_transformers() -> None:
    on_gpu = effective_spec(parse_spec(BASE), "job")
    on_cpu = effective_spec(parse_spec(BASE | {"resources": {"limits": {"nvidia.com/gpu": 0}}}), "job")
    laptop = effective_spec(parse_spec(BASE), "job", local_gpus=0)
    assert (on_gpu.backend, on_gpu.quantization, on_gpu.gpus) == ("unsloth", "4bit", 1)
    assert (on_cpu.backend, on_cpu.quantization, on_cpu.gpus) == ("transformers", "none", 0)
    assert (laptop.backend, laptop.quantization, laptop.gpus) == ("transformers", "none", 0)


def test_a_group_that_is_not_given_has_defaults_only_where_it_applies() -> None:
    text = effective_spec(parse_spec(BASE), "job")
    assert (text.push_to_hub, text.image_options) == (None, None)
    pushed = {"pushToHub": {"repo": "org/name"}, "hubTokenSecret": {"name": "hub", "key": "token"}, "isVision": True}
    vision = effective_spec(parse_spec(BASE | pushed), "job")
    assert vision.push_to_hub and vision.push_to_hub.private
    assert vision.pixel_bounds == (3136, 1_003_520)


def test_the_output_folder_is_named_after_the_job() -> None:
    assert effective_spec(parse_spec(BASE), "receipts").output_dir == "./models/receipts"


@given(hyperparameters=NUMBERS)
def test_what_the_user_set_is_kept_and_applying_twice_changes_nothing(hyperparameters: dict[str, Any]) -> None:
    once = effective_spec(parse_spec(BASE | {"hyperparameters": hyperparameters}), "job")
    assert once.hyperparameters
    assert (
        once.hyperparameters.to_dict().items()
        >= parse_spec(BASE | {"hyperparameters": hyperparameters}).to_dict().get("hyperparameters", {}).items()
    )
    assert effective_spec(once, "job") == once


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("Qwen/Qwen2.5-VL-72B-Instruct", 72.0),
        ("unsloth/Qwen2.5-VL-3B-Instruct-bnb-4bit", 3.0),
        ("Qwen/Qwen2.5-0.5B", 0.5),
        ("org/model", None),
    ],
)
def test_a_models_size_is_read_from_its_name(name: str, size: float | None) -> None:
    assert billions(name) == size
