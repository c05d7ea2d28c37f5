"""Full fine-tuning (``adapter: none``): which weights are trained, and how a checkpoint holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from model_garden.contract.options import EffectiveLoraConfig
from model_garden.families import AUDIO_MODULES, VISION_MODULES
from model_garden_trainer.models.lora import CONNECTOR

WEIGHTS = "model.safetensors"
_SIGHT = VISION_MODULES | {"embed_vision"}
"""Names of vision towers, and of Gemma's connector."""


def unfreeze(model: Any, config: EffectiveLoraConfig) -> Any:
    """``model`` with the weights of the chosen sides trained: the language model, the vision tower with its connector.

    All other weights, such as those of an audio encoder, stay frozen. A checkpoint holds the trained weights by the
    names that they have here: transformers renames some when it saves a model, and would not find them again.
    """
    model.requires_grad_(False)
    for side, chosen in (
        (_language(model), config.finetune_language_layers),
        (_sight(model), config.finetune_vision_layers),
    ):
        for weight in side if chosen else ():
            weight.requires_grad_(True)

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


def _language(model: Any) -> list[torch.nn.Parameter]:
    """The weights of the language model, with its embeddings and its output layer."""
    parts = (model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings())
    return [weight for part in parts if part is not None for weight in part.parameters()]


def _sight(model: Any) -> list[torch.nn.Parameter]:
    """The weights of the vision tower and its connector."""
    return [weight for name, weight in model.named_parameters() if _sees(name)]


def _sees(name: str) -> bool:
    parts = set(name.split("."))
    return bool(_SIGHT & parts or CONNECTOR.search(name)) and not AUDIO_MODULES & parts
