"""The table of docs/sizing.md: what jobs with well-known models need, by the project's own estimates."""

from __future__ import annotations

from typing import Any

from model_garden.contract.defaults import effective_spec
from model_garden.contract.memory_estimate import GIB, RowShape
from model_garden.contract.spec import EffectiveSpec, TrainingJobSpec
from model_garden.estimate.disk import output_space
from model_garden.estimate.estimate import estimate
from testing import model_configs as configs
from tools.reference.markdown import table

MODELS = (
    ("Qwen/Qwen2.5-VL-3B-Instruct", configs.QWEN2_5_VL_3B, True),
    ("Qwen/Qwen2.5-VL-7B-Instruct", configs.QWEN2_5_VL_7B, True),
    ("Qwen/Qwen2.5-VL-72B-Instruct", configs.QWEN2_5_VL_72B, True),
    ("Qwen/Qwen2.5-3B-Instruct", configs.QWEN2_5_3B, False),
    ("Qwen/Qwen2.5-7B-Instruct", configs.QWEN2_5_7B, False),
    ("meta-llama/Llama-3.1-8B-Instruct", configs.LLAMA_3_1_8B, False),
)
ROW = RowShape(tokens=2048, image_tokens=0)
VISION_ROW = RowShape(tokens=2048, image_tokens=1280)
WAYS: dict[str, dict[str, Any]] = {
    "GPU, 4-bit LoRA": {},
    "GPU, 16-bit LoRA": {"quantization": "16bit"},
    "GPU, all weights": {"adapter": "none", "quantization": "16bit"},
}


def sizing_table() -> str:
    """One row for each model: memory of the GPU in three ways to train, expected and at most, and disk space."""
    titles = ["model", *WAYS, "cache", "models: adapter", "models: merged, GGUF", "models: all weights"]
    return table(titles, [_row(*model) for model in MODELS])


def _row(name: str, config: dict[str, Any], vision: bool) -> list[str]:
    memory = [_memory(_spec(name, vision, **way), config, vision) for way in WAYS.values()]
    parameters = estimate(_spec(name, vision), config, rows=VISION_ROW if vision else ROW).parameters
    gguf = {"saveMethod": "gguf"}
    disk = [_disk(_spec(name, vision, **more), config) for more in ({}, gguf, WAYS["GPU, all weights"])]
    return [f"`{name}`", *memory, _gib(2 * parameters / GIB), *disk]


def _spec(name: str, vision: bool, **more: Any) -> EffectiveSpec:
    given = {"baseModel": name, "datasetPath": "./data/rows.jsonl", "isVision": vision} | more
    return effective_spec(TrainingJobSpec.model_validate(given), "example")


def _memory(spec: EffectiveSpec, config: dict[str, Any], vision: bool) -> str:
    found = estimate(spec, config, rows=VISION_ROW if vision else ROW)
    return f"{_gib(found.total_gib)} / {_gib(found.max_gib)}"


def _disk(spec: EffectiveSpec, config: dict[str, Any]) -> str:
    return _gib(sum(part.size for part in output_space(spec, config, checkpoints=None)) / GIB)


def _gib(size: float) -> str:
    return f"{size:.1f}" if size < 10 else f"{size:.0f}"
