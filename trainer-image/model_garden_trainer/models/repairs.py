"""Repairs of models in transformers that compute something wrong, or fail where they should not."""

from __future__ import annotations

import functools
from typing import Any

import torch


def repair(model_type: str) -> None:
    """Repair the classes of a type of model, before one is loaded."""
    repairs = {
        "minicpmv4_6": _merge_images_apart,
        "mllama": _show_no_image_to_rows_without,
        "llama4": _take_images_in_any_dtype,
    }
    if model_type in repairs:
        repairs[model_type]()


@functools.cache
def _merge_images_apart() -> None:
    """MiniCPM-V 4.6: merge the patches of each image by the image's own size.

    transformers 5.17 takes the size of the first image of a batch for all (``get_vision_merged_shape``). An image of
    another size raises an error or, if its area is the same, gets its patches mixed up.
    """
    from transformers.models.minicpmv4_6.modeling_minicpmv4_6 import MiniCPMV4_6ViTWindowAttentionMerger as Merger

    merge = Merger.forward

    @functools.wraps(merge)
    def apart(self: Any, hidden_states: torch.Tensor, target_sizes: torch.Tensor, **options: Any) -> torch.Tensor:
        images = hidden_states.split(target_sizes.prod(dim=1).tolist(), dim=1)
        merged = [merge(self, image, size[None], **options) for image, size in zip(images, target_sizes, strict=True)]
        return torch.cat(merged, dim=1)

    Merger.forward = apart


@functools.cache
def _show_no_image_to_rows_without() -> None:
    """Llama 3.2 Vision: let a row without an image in a batch with images see nothing of the padding of its images.

    A row alone skips the layers that look at images. In a batch, transformers 5.17 lets a token that may see no image
    see all of them alike (``_prepare_cross_attention_mask``). What it sees of zeros is zero.
    """
    from transformers.models.mllama.modeling_mllama import MllamaTextModel

    forward = MllamaTextModel.forward

    @functools.wraps(forward)
    def blind(
        self: Any,
        *args: Any,
        cross_attention_states: torch.Tensor | None = None,
        full_text_row_masked_out_mask: torch.Tensor | None = None,
        **options: Any,
    ) -> Any:
        if cross_attention_states is not None and full_text_row_masked_out_mask is not None:
            sees = full_text_row_masked_out_mask.flatten(1).any(dim=1)
            tiles = len(cross_attention_states) // len(sees)  # of a row
            cross_attention_states = cross_attention_states * sees.repeat_interleave(tiles)[:, None, None]
        return forward(
            self,
            *args,
            cross_attention_states=cross_attention_states,
            full_text_row_masked_out_mask=full_text_row_masked_out_mask,
            **options,
        )

    MllamaTextModel.forward = blind


@functools.cache
def _take_images_in_any_dtype() -> None:
    """Llama 4: let the vision tower take images in another dtype than its own.

    The image processor of transformers 5.17 makes them in bfloat16 always.
    """
    from transformers.models.llama4.modeling_llama4 import Llama4VisionModel

    forward = Llama4VisionModel.forward

    @functools.wraps(forward)
    def cast(self: Any, pixel_values: torch.Tensor, *args: Any, **options: Any) -> Any:
        return forward(self, pixel_values.to(self.dtype), *args, **options)

    Llama4VisionModel.forward = cast
