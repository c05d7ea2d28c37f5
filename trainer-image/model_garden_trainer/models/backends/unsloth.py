"""Unsloth, on a GPU: its fused kernels and loss, 4 and 8 bit, its own gradient checkpointing.

Imported before transformers, trl and peft (``backends.come_first`` sees to it), because it patches what it finds.
Batches come from our Collator on both backends: Unsloth's own vision collator makes the same batch of a row with one
answer, and trains on questions too where a row has several; a test holds the two side by side.
"""

# ruff: noqa: I001  unsloth must be imported first
from __future__ import annotations

from pathlib import Path
from typing import Any

import unsloth  # noqa: F401
import torch
from unsloth import FastModel, FastVisionModel

from model_garden.contract.spec import EffectiveSpec
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.models.lora import choose, layers, pattern
from model_garden_trainer.models.quantized import assert_quantized

OWN_LOSS = True
"""The model computes its loss in a fused kernel that never holds all logits."""


def load_model(spec: EffectiveSpec, folder: Path) -> Any:
    """The base model, frozen, on the GPU.

    Raises:
        TrainingError: InvalidModel for weights that do not load, or were not quantized as asked.
    """
    h = spec.hyperparameters
    fast = FastVisionModel if spec.vision else FastModel
    try:
        model, _ = fast.from_pretrained(
            str(folder),
            max_seq_length=h.max_seq_length,
            dtype=torch.bfloat16 if torch.cuda.is_available() else torch.float32,
            load_in_4bit=spec.quantization == "4bit",
            load_in_8bit=spec.quantization == "8bit",
            load_in_16bit=spec.quantization in ("16bit", "none") and torch.cuda.is_available(),
            full_finetuning=False,
            use_gradient_checkpointing="unsloth",
            random_state=h.seed,
            local_files_only=True,
        )
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise TrainingError("InvalidModel", f"spec.baseModel: {spec.base_model} does not load: {error}") from error
    assert_quantized(model, spec.quantization)
    return model


def add_lora(model: Any, spec: EffectiveSpec) -> Any:
    """The model with fresh adapters on the same layers that the other backend chooses, all else frozen."""
    config, h = spec.lora_config, spec.hyperparameters
    linears, others = layers(model)
    targets, excluded = choose(linears, config, others)
    fast = FastVisionModel if spec.vision else FastModel
    adapted = fast.get_peft_model(
        model,
        r=config.r,
        target_modules=pattern(targets, excluded),
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        bias="none",
        finetune_vision_layers=bool(config.finetune_vision_layers),
        finetune_language_layers=bool(config.finetune_language_layers),
        finetune_attention_modules=bool(config.finetune_attention_modules),
        finetune_mlp_modules=bool(config.finetune_mlp_modules),
        use_gradient_checkpointing="unsloth",
        random_state=h.seed,
        use_rslora=bool(config.use_rslora),
    )
    fast.for_training(adapted)
    return adapted
