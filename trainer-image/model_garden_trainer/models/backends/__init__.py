"""What a model is loaded and adapted with: two backends behind the same functions, chosen once, before anything heavy
is imported (unsloth patches the libraries that it finds, and must come first)."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from model_garden.contract.adapter_rules import only_on_transformers
from model_garden.contract.spec import EffectiveSpec
from model_garden_trainer.errors import TrainingError


def choose(spec: EffectiveSpec, *, gpu: bool) -> tuple[str, str]:
    """The backend's name and why it is the one.

    Raises:
        TrainingError: InvalidSpec for what needs a GPU where there is none.
    """
    if spec.backend == "unsloth" and not gpu:
        raise TrainingError(
            "InvalidSpec",
            "spec.backend: unsloth needs a GPU, but torch finds none on this machine; use backend: transformers "
            "(with resources.limits nvidia.com/gpu: 0), or run where there is a GPU",
        )
    if spec.quantization in ("4bit", "8bit") and not gpu:
        raise TrainingError(
            "InvalidSpec",
            f"spec.quantization: {spec.quantization} needs a GPU, but torch finds none on this machine; use "
            "quantization: none, or run where there is a GPU",
        )
    h = spec.hyperparameters
    if h and h.optim and h.optim.endswith("bit") and not gpu:  # these are bitsandbytes' optimizers
        raise TrainingError(
            "InvalidSpec",
            f"spec.hyperparameters.optim: {h.optim} needs a GPU, but torch finds none on this machine; use adamw_torch",
        )
    # an effective spec always names a backend: only one that is not the default was surely chosen by its author
    if spec.backend == "unsloth":
        return "unsloth", "default with a GPU"
    if spec.method != "sft":
        return "transformers", f"unsloth is not used with method: {spec.method}"
    if field := only_on_transformers(spec.to_dict()):
        return "transformers", f"unsloth does not support {field}"
    return "transformers", "spec.backend" if spec.gpus else "default without a GPU"


def import_first(spec: EffectiveSpec) -> None:
    """Import the backend that has to be imported before all other libraries, where it is the one.

    Raises:
        TrainingError: as ``choose``.
    """
    if spec.backend == "unsloth":
        import torch

        load(choose(spec, gpu=torch.cuda.is_available())[0])


def placement() -> dict[str, Any]:
    """The option of ``from_pretrained`` that puts a whole model on this process's GPU; none on a CPU.

    Without it a library may move what does not fit to the CPU, or spread the model over GPUs of other processes. With
    it a model that is too large raises ``torch.OutOfMemoryError``.
    """
    import torch

    return {"device_map": {"": torch.cuda.current_device()}} if torch.cuda.is_available() else {}


def load(name: str) -> ModuleType:
    """The backend's module: ``load_model``, ``add_lora``, ``collator``, ``reset`` and two constants."""
    return importlib.import_module(f"model_garden_trainer.models.backends.{name}")
