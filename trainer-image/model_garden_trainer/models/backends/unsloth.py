"""Unsloth, on a GPU: its fused kernels and loss, 4 and 8 bit, its own gradient checkpointing.

Imported before transformers, trl and peft (``backends.import_first`` sees to it), because it patches what it finds.
"""

# ruff: noqa: I001  unsloth must be imported first
from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import unsloth  # noqa: F401
import torch
from unsloth import FastModel, FastVisionModel
from unsloth.trainer import UnslothVisionDataCollator
from unsloth_zoo import gradient_checkpointing
from unsloth_zoo.compile_cache import megacache_save

from model_garden.contract.spec import EffectiveSpec
from model_garden.datasets.model_files import read_json
from model_garden.families import VISION_MODULES
from model_garden_trainer.batches.collator import Collator
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.models.backends import placement
from model_garden_trainer.models.lora import choose, layers, pattern
from model_garden_trainer.models.quantized import assert_quantized
from model_garden_trainer.models.repairs import repair

OWN_LOSS = True
"""The model computes its loss in a fused kernel that never holds all logits."""
SOME_MAY_BE_UNUSED: bool | None = None
"""Unsloth's Trainer decides: its gradient checkpointing allows it for trained vision towers alone."""


def load_model(spec: EffectiveSpec, folder: Path) -> Any:
    """The base model, frozen, on the GPU.

    Raises:
        TrainingError: InvalidModel for weights that do not load, or were not quantized as asked.
    """
    repair(read_json(folder / "config.json").get("model_type", ""))
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
            **placement(),
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
    leave_out_frozen_towers(adapted.get_base_model())
    return adapted


def leave_out_frozen_towers(base: Any) -> None:
    """Let no gradient flow through a vision tower without trained parameters.

    Unsloth asks for a gradient at the input of every part of the model, for its gradient checkpointing. A frozen tower
    would be recomputed and differentiated, to no effect on the adapters.
    """
    for name, tower in base.named_modules():
        if name.rpartition(".")[2] not in VISION_MODULES or any(p.requires_grad for p in tower.parameters()):
            continue
        for module in tower.modules():
            for hooks in (module._forward_hooks, module._forward_pre_hooks):
                for key in [key for key, hook in hooks.items() if "require_grads" in getattr(hook, "__qualname__", "")]:
                    del hooks[key]


class RenderedRows(UnslothVisionDataCollator):
    """Unsloth's collator for rows with the text that the Collator rendered."""

    def _apply_chat_template(self, messages: Any, example: Any = None, **_: Any) -> str:  # noqa: ARG002
        return str(example["text"])


def collator(encoder: Collator, model: Any) -> Collator:
    """``encoder``, with batches of images made by UnslothVisionDataCollator.

    It would train on questions too where a row has several answers, so that ``encoder`` decides what carries loss.
    """
    if not encoder.vision:
        return encoder
    processor = copy.deepcopy(encoder.processor)
    processor.tokenizer.padding_side = "right"
    make = RenderedRows(model, processor, resize="max")  # images have their size already
    make.truncation, make.max_seq_length = False, None  # rows are never truncated
    return encoder.with_batches_of(make, processor)


def reset() -> None:
    """Save compiled graphs, and forget them and the buffers of gradient checkpointing.

    A graph that was compiled before training gives wrong gradients in training (``unsloth/models/_utils.py``, at
    ``_unsloth_reset_stray_compile_cache``), and a pass that broke off leaves its buffers in mid-step.
    """
    megacache_save()  # for the next process; Unsloth would do it at exit, which the trainer's own exit leaves out
    torch.compiler.reset()
    if hasattr(gradient_checkpointing, "GPU_BUFFERS"):  # made with the first model whose checkpoints are offloaded
        gradient_checkpointing.reset_unsloth_gradient_checkpointing_buffers()
