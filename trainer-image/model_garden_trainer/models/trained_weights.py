"""The trained weights of a model, whether they are an adapter or its own: kept aside, put back, read from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel, load_peft_weights, set_peft_model_state_dict

from model_garden_trainer.models import full, peft_adapter
from model_garden_trainer.models.peft_adapter import State


def snapshot(model: Any) -> State:
    """A copy of the trained weights in the host's memory."""
    weights = peft_adapter.state(model) if isinstance(model, PeftModel) else full.state(model)
    return {name: weight.cpu().clone() for name, weight in weights.items()}


def restore(model: Any, weights: State) -> None:
    """Put the weights of ``snapshot`` back."""
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, weights)
    else:
        full.put(model, weights)


def load(model: Any, folder: Path) -> None:
    """Put the weights of a checkpoint into the model."""
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, load_peft_weights(str(folder), device="cpu"))
    else:
        full.load(model, folder)
