"""The models that the form suggests; any other Hub id or path may be typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """A model on the Hub, and a note on when to choose it."""

    id: str
    note: str


VISION: dict[str, tuple[Model, ...]] = {
    "Qwen2.5-VL": (
        Model("Qwen/Qwen2.5-VL-3B-Instruct", "3B, a good start"),
        Model("Qwen/Qwen2.5-VL-7B-Instruct", "7B, more accurate"),
        Model("Qwen/Qwen2.5-VL-72B-Instruct", "72B, for 80 GB GPUs"),
    ),
    "Qwen2.5-VL, 4-bit by Unsloth": (
        Model("unsloth/Qwen2.5-VL-3B-Instruct-bnb-4bit", "3B, smaller download"),
        Model("unsloth/Qwen2.5-VL-7B-Instruct-bnb-4bit", "7B, smaller download"),
        Model("unsloth/Qwen2.5-VL-72B-Instruct-bnb-4bit", "72B, smaller download"),
    ),
    "Qwen3-VL": (
        Model("Qwen/Qwen3-VL-2B-Instruct", "2B"),
        Model("Qwen/Qwen3-VL-4B-Instruct", "4B"),
        Model("Qwen/Qwen3-VL-8B-Instruct", "8B"),
        Model("Qwen/Qwen3-VL-32B-Instruct", "32B"),
    ),
    "Qwen3.5": (Model("Qwen/Qwen3.5-9B", "9B, images and text"), Model("Qwen/Qwen3.5-27B", "27B, images and text")),
    "Gemma 3": (
        Model("google/gemma-3-4b-it", "4B, needs a Hub token"),
        Model("google/gemma-3-12b-it", "12B, needs a Hub token"),
        Model("google/gemma-3-27b-it", "27B, needs a Hub token"),
    ),
    "SmolVLM": (
        Model("HuggingFaceTB/SmolVLM-256M-Instruct", "256M, to try things"),
        Model("HuggingFaceTB/SmolVLM2-2.2B-Instruct", "2.2B"),
    ),
    "Mistral": (
        Model("mistralai/Mistral-Small-3.1-24B-Instruct-2503", "24B"),
        Model("mistral-community/pixtral-12b", "12B"),
    ),
}
TEXT: dict[str, tuple[Model, ...]] = {
    "Qwen3": (
        Model("Qwen/Qwen3-0.6B", "0.6B, to try things"),
        Model("Qwen/Qwen3-4B-Instruct-2507", "4B, a good start"),
        Model("Qwen/Qwen3-8B", "8B"),
        Model("Qwen/Qwen3-32B", "32B"),
    ),
    "Qwen2.5": (
        Model("Qwen/Qwen2.5-0.5B-Instruct", "0.5B, to try things"),
        Model("Qwen/Qwen2.5-7B-Instruct", "7B"),
    ),
    "Llama": (
        Model("meta-llama/Llama-3.2-3B-Instruct", "3B, needs a Hub token"),
        Model("meta-llama/Llama-3.1-8B-Instruct", "8B, needs a Hub token"),
    ),
    "Reads images too": (
        Model("Qwen/Qwen3.5-9B", "9B"),
        Model("google/gemma-3-4b-it", "4B, needs a Hub token"),
        Model("google/gemma-3-12b-it", "12B, needs a Hub token"),
    ),
    "Other": (
        Model("google/gemma-3-1b-it", "1B, needs a Hub token"),
        Model("mistralai/Mistral-7B-Instruct-v0.3", "7B"),
        Model("microsoft/Phi-4-mini-instruct", "3.8B"),
        Model("Qwen/Qwen3-30B-A3B-Instruct-2507", "30B, a mixture of experts: its attention is trained"),
    ),
}


def suggestions(*, vision: bool) -> dict[str, tuple[Model, ...]]:
    """The models of one type, by family; the first one is the form's first choice."""
    return VISION if vision else TEXT


OTHER_MODEL = "other"
"""The choice of a model that is not listed. Not an empty value: a form that is sent has none of those."""


def chosen(model: str, values: Mapping[str, str], *, vision: bool) -> str:
    """The model that the form shows: the first one while none is given, or where the list changed with the type."""
    other_type = (
        values.get("base_model") and is_listed(model, vision=not vision) and not is_listed(model, vision=vision)
    )
    if other_type or (not model and values.get("base_model") != OTHER_MODEL):
        return next(iter(suggestions(vision=vision).values()))[0].id
    return model


def is_listed(model: str, *, vision: bool) -> bool:
    """Whether the form suggests ``model``."""
    return any(model == one.id for family in suggestions(vision=vision).values() for one in family)
