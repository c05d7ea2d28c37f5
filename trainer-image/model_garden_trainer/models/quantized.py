"""Weights in 4 and 8 bit: how bitsandbytes is told, and whether it did: where it does not work, some loaders go on in
16 bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model_garden.families import AUDIO_MODULES, CONNECTORS, VISION_MODULES
from model_garden_trainer.errors import TrainingError

LAYERS = {"4bit": "Linear4bit", "8bit": "Linear8bitLt"}
KEPT = ["lm_head", "embed_out", *(f"model.{name}" for name in sorted(VISION_MODULES | AUDIO_MODULES | CONNECTORS))]
"""What stays in 16 bit: heads, whose error every token sees, and vision towers with what joins them to the language
model, small parts whose answers suffer most. Unsloth keeps the same."""


def assert_quantized(model: Any, quantization: str | None) -> None:
    """Look for the layers of ``quantization``.

    Raises:
        TrainingError: InvalidModel where there is none.
    """
    kind = LAYERS.get(quantization or "")
    if kind and not any(type(module).__name__ == kind for module in model.modules()):
        raise TrainingError(
            "InvalidModel",
            f"spec.quantization: {quantization}, but bitsandbytes did not quantize any layer of the model (no {kind}); "
            "use quantization: 16bit, or repair bitsandbytes (python -m bitsandbytes shows what is wrong)",
        )


def comes_quantized(folder: Path) -> bool:
    """Whether the weights of a model's folder are quantized on disk."""
    return "quantization_config" in json.loads((folder / "config.json").read_text(encoding="utf-8"))


def precision(model: Any) -> str:
    """In how many bits a loaded model holds its weights: ``4 bit``, ``16 bit``."""
    if getattr(model, "is_loaded_in_4bit", False):
        return "4 bit"
    if getattr(model, "is_loaded_in_8bit", False):
        return "8 bit"
    return f"{8 * model.dtype.itemsize} bit"


def quantization_config(kind: str) -> Any:
    """The quantization for ``from_pretrained``: ``4bit`` as in QLoRA (arxiv.org/abs/2305.14314), or ``8bit``."""
    import torch
    from transformers import BitsAndBytesConfig

    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=KEPT)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=KEPT,
    )
