"""Computes the tokens of a picture from its size, without decoding it."""

from __future__ import annotations

import math

from model_garden.estimate.modules import VisionShape


def smart_resize(width: int, height: int, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """The size (width, height) in pixels to which Qwen's processors scale a picture.

    Both sides become multiples of ``factor``, the area is within the bounds, and the aspect ratio is kept as nearly as
    possible. Source: ``smart_resize`` in transformers' ``image_processing_qwen2_vl``.
    """
    wide, high = round(width / factor) * factor, round(height / factor) * factor
    if wide * high > max_pixels:
        shrink = math.sqrt(width * height / max_pixels)
        wide = max(factor, math.floor(width / shrink / factor) * factor)
        high = max(factor, math.floor(height / shrink / factor) * factor)
    elif wide * high < min_pixels:
        grow = math.sqrt(min_pixels / (width * height))
        wide, high = math.ceil(width * grow / factor) * factor, math.ceil(height * grow / factor) * factor
    return wide, high


def most_picture_tokens(vision: VisionShape, max_pixels: int) -> int:
    """The most tokens of a picture of up to ``max_pixels``: 1280 for 1003520 pixels and merged patches of 28 x 28."""
    if vision.fixed_tokens is not None:
        return vision.fixed_tokens
    return max(1, max_pixels // (vision.patch * vision.merge) ** 2)


def patches(vision: VisionShape, tokens: int) -> int:
    """Patches in the vision tower for ``tokens`` image tokens."""
    if vision.fixed_tokens is not None and vision.fixed_pixels is not None:
        return math.ceil(tokens / vision.fixed_tokens) * (vision.fixed_pixels // vision.patch) ** 2
    return tokens * vision.merge**2
