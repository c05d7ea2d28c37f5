"""What Qwen's models compute of the sizes of images before they look at them, computed with the batch instead.

Rotary positions, the lengths of images and windows, and the order of patches depend on the grids of the images alone.
The models compute them on the GPU in Python loops, each of which waits for it: some fifty waits for 8 images. Here a
worker of the data loader computes them while the GPU is busy, with the models' own functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import MODEL_MAPPING, PreTrainedConfig
from transformers.vision_utils import (
    get_vision_cu_seqlens,
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
    get_vision_window_index,
)

from model_garden.datasets.example import Example
from model_garden_trainer.batches.collator import Batch

RopeIndex = Callable[..., tuple[torch.Tensor, torch.Tensor]]
"""Qwen's ``get_rope_index``: tokens and image grids of rows -> their three rotary positions (3, rows, length)."""
PREFIX = "image_"
"""transformers hands the arguments of this prefix to the tower without it (``accepts_precomputed_kwargs``)."""
_TOWERS = {"qwen2_vl", "qwen2_5_vl", "qwen3_vl"}
"""Types of models whose towers take what ``tower_inputs`` computes; others would pass it on to their layers."""


class WithVisionInputs:
    """The collator ``encode``, whose batches hold these inputs too.

    Args:
        encode: makes batches of examples.
        config: the model's config.
    """

    def __init__(self, encode: Callable[[list[Example]], Batch], config: PreTrainedConfig) -> None:
        self._encode, self._config = encode, config
        self._rope_index = rope_index(config) if config.model_type in _TOWERS else None

    def __call__(self, examples: list[Example]) -> dict[str, Any]:
        """A batch, with ``position_ids`` (3 x rows x length) and the tower's inputs if it has images."""
        batch = self._encode(examples)
        if self._rope_index is None or "image_grid_thw" not in batch or "mm_token_type_ids" not in batch:
            return batch
        positions, _ = self._rope_index(
            input_ids=batch["input_ids"],
            mm_token_type_ids=batch["mm_token_type_ids"],
            image_grid_thw=batch["image_grid_thw"],
            attention_mask=batch["attention_mask"],
        )
        return {**batch, "position_ids": positions, **tower_inputs(batch, self._config)}


def tower_inputs(batch: Batch, config: PreTrainedConfig) -> dict[str, Any]:
    """What the vision tower computes of ``image_grid_thw`` (images x 3: time, height and width in patches).

    Returns:
        By argument: positions (patches x 2), starts and ends (images + 1) and the greatest length; for Qwen2.5-VL also
        those of windows, for Qwen3-VL the weights of learned positions. Empty without images, and for other towers.
    """
    if config.model_type not in _TOWERS or "image_grid_thw" not in batch:
        return {}
    grids = batch["image_grid_thw"]
    vision: Any = config.vision_config
    merge = vision.spatial_merge_size
    lengths = get_vision_cu_seqlens(grids)
    found: dict[str, Any] = {
        "position_ids": get_vision_position_ids(grids, merge),
        "cu_seqlens": lengths,
        "max_seqlen": int(lengths.diff().max()),
    }
    if config.model_type == "qwen2_5_vl":
        order, windows = get_vision_window_index(grids, merge, vision.window_size, vision.patch_size)
        found |= {"window_index": order, "cu_window_seqlens": windows, "max_window_seqlen": int(windows.diff().max())}
    if config.model_type == "qwen3_vl":
        indices, weights = get_vision_interpolation_indices_and_weights(
            grids, int(vision.num_position_embeddings**0.5), align_corners=True, spatial_merge_size=merge
        )
        found |= {"interp_indices": indices, "interp_weights": weights}
    return {PREFIX + name: value for name, value in found.items()}


def keep_from_language_model(model: Any) -> None:
    """Let the language model of ``model`` not see the tower's inputs.

    The models hand them on to its layers, where compiled code would be compiled again for each new length. To ask for
    it again changes nothing.
    """
    base = unwrapped(model)
    if base.config.model_type not in _TOWERS:
        return
    decoder = base.get_decoder()
    if _without_vision_inputs not in decoder._forward_pre_hooks.values():
        decoder.register_forward_pre_hook(_without_vision_inputs, with_kwargs=True)


def _without_vision_inputs(_: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return args, {name: value for name, value in kwargs.items() if not name.startswith(PREFIX)}


def rope_index(config: PreTrainedConfig) -> RopeIndex | None:
    """``get_rope_index`` of the model class that ``config`` names, None where the class has none.

    It reads nothing but the config, so that it is bound to an instance without weights, which a data loader's worker
    can be handed.
    """
    model_class: Any = MODEL_MAPPING[type(config)]
    if not hasattr(model_class, "get_rope_index"):
        return None
    weightless = model_class.__new__(model_class)
    torch.nn.Module.__init__(weightless)
    weightless.config = config
    return weightless.get_rope_index  # type: ignore[no-any-return]


def unwrapped(model: Any) -> Any:
    """The model under its adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
