"""transformers and peft as they are: any model that the auto classes load, on a CPU or a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from model_garden.contract.spec import EffectiveSpec
from model_garden_trainer.batches.collator import Collator
from model_garden_trainer.batches.vision_inputs import unwrapped
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.models import base_adapter, full, loftq, peft_adapter
from model_garden_trainer.models.auto_classes import model_class
from model_garden_trainer.models.backends import placement
from model_garden_trainer.models.quantized import assert_quantized, quantization_config

OWN_LOSS = False
"""Whether the model computes its loss itself, in a way that ours would undo."""
SOME_MAY_BE_UNUSED: bool | None = True
"""Whether processes look for adapters that a batch does not use; None where the backend's Trainer decides."""


def dtype_of(spec: EffectiveSpec) -> torch.dtype:
    """The dtype of the weights: float32 on a CPU, and where they are trained, unless the spec asks for 16 bit.

    An update of a trained weight may be smaller than the distance of two bfloat16 numbers.
    """
    if spec.quantization == "16bit" or (torch.cuda.is_available() and spec.adapter != "none"):
        return torch.bfloat16
    return torch.float32


def load_model(spec: EffectiveSpec, folder: Path) -> Any:
    """The base model, frozen, on the device that it trains on.

    Raises:
        TrainingError: InvalidModel for weights that do not load or do not fit their config.
    """
    # PyTorch's attention is the default of each model that can use it
    options: dict[str, Any] = {"dtype": dtype_of(spec), "local_files_only": True} | placement()
    if spec.quantization in ("4bit", "8bit"):
        options["quantization_config"] = quantization_config(spec.quantization)
    try:
        model, info = model_class(spec, folder).from_pretrained(folder, output_loading_info=True, **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise TrainingError("InvalidModel", f"spec.baseModel: {spec.base_model} does not load: {error}") from error
    if info["missing_keys"] or info["mismatched_keys"]:
        missing = sorted(str(key) for key in (*info["missing_keys"], *info["mismatched_keys"]))
        raise TrainingError(
            "InvalidModel",
            f"spec.baseModel: {len(missing)} weights of {spec.base_model} are missing or have another shape (such "
            f"as {missing[0]}), and training would start from random numbers there; download the model again",
        )
    assert_quantized(model, spec.quantization)
    model.config.use_cache = False
    return model


def add_lora(model: Any, spec: EffectiveSpec) -> Any:
    """The model with the adapters of ``adapterPath``, or fresh ones on the layers that ``loraConfig`` chooses."""
    folder = base_adapter.locate(spec)
    if folder:
        adapted = peft_adapter.continued(model, folder, spec.lora_config.lora_dropout)
    else:
        adapted = peft_adapter.add(model, spec.lora_config)
        if spec.lora_config.init_lora_weights == "loftq":
            loftq.start(adapted, _unquantized(model, spec))
    if torch.cuda.is_available():  # saves memory where memory is short; a CPU's time is shorter than its memory
        recompute_layers(adapted)
    return adapted


def _unquantized(model: Any, spec: EffectiveSpec) -> Any:
    """The base model of ``model`` in 16 bit, in the memory of the CPU."""
    folder = Path(model.name_or_path)
    return model_class(spec, folder).from_pretrained(folder, dtype=torch.bfloat16, local_files_only=True)


def train_whole(model: Any, spec: EffectiveSpec) -> Any:
    """The model with all weights trained on the sides that ``loraConfig`` chooses, all else frozen."""
    trained = full.unfreeze(model, spec.lora_config)
    if torch.cuda.is_available():
        recompute_layers(trained)
    return trained


def recompute_layers(adapted: Any) -> None:
    """Gradient checkpointing: a layer's activations are computed again in the backward pass, and not kept.

    The kind that is not reentrant needs no input with a gradient. The libraries ask for one all the same, on every
    embedding, the vision tower's too: a frozen tower would be recomputed and differentiated for nothing. They would ask
    again later: TRL switches recomputation off for the pass of a reference, and on after it.
    """
    base = unwrapped(adapted)
    base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    base.disable_input_require_grads()
    base.enable_input_require_grads = lambda: None


def collator(encoder: Collator, model: Any) -> Collator:  # noqa: ARG001  the other backend's needs the model
    """``encoder`` as it is."""
    return encoder


def reset() -> None:
    """Nothing is compiled and no buffer is kept."""
