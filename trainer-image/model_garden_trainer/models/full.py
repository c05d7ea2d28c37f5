"""Full fine-tuning (``adapter: none``): which weights are trained, and how a checkpoint holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from model_garden.contract.options import EffectiveLoraConfig
from model_garden.families import VISION_MODULES
from model_garden_trainer.models.lora import CONNECTOR

WEIGHTS = "model.safetensors"


def unfreeze(model: Any, config: EffectiveLoraConfig) -> Any:
    """``model`` with the weights of the chosen sides trained: the language model, the vision tower with its connector.

    A checkpoint then holds the trained weights by the names that they have here: transformers renames some when it
    saves a model, and would not find them again.
    """
    for name, weight in model.named_parameters():
        weight.requires_grad_(bool(config.finetune_vision_layers if _sees(name) else config.finetune_language_layers))

    def save(folder: str | Path, **_: Any) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        save_file(state(model), Path(folder) / WEIGHTS, metadata={"format": "pt"})

    model.save_pretrained = save
    return model


def state(model: Any) -> dict[str, torch.Tensor]:
    """The trained weights by name; tied ones once."""
    return {name: weight.data.contiguous() for name, weight in model.named_parameters() if weight.requires_grad}


def put(model: Any, weights: dict[str, torch.Tensor]) -> None:
    """Put weights of ``state`` back into the model."""
    trained = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in weights.items():
            trained[name].copy_(weight)


def load(model: Any, folder: Path) -> None:
    """Put the weights of a checkpoint into the model."""
    put(model, load_file(folder / WEIGHTS))


def _sees(name: str) -> bool:
    return bool(VISION_MODULES & set(name.split("."))) or bool(CONNECTOR.search(name))
