"""How many tokens a picture becomes, from its size alone: for the memory estimate, before any picture is decoded."""

from __future__ import annotations

import math

from model_garden.estimate.model_shape import VisionShape

MAX_ASPECT_RATIO = 200
"""A picture longer than this many times its width is refused by the models' own processors."""


def smart_resize(width: int, height: int, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """The size (width, height) in pixels that Qwen's processors bring a picture to.

    Raises:
        ValueError: one side is over 200 times the other.
    """
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ValueError(
            f"a picture of {width} x {height}: one side is over {MAX_ASPECT_RATIO} times the other; crop it"
        )
    return resized(width, height, factor, min_pixels, max_pixels)


def resized(width: int, height: int, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """The same for a picture whose shape was looked at already.

    Both sides become multiples of ``factor``, the area lies between the bounds, the shape is kept as nearly as that
    allows. Source: ``smart_resize`` in transformers' ``image_processing_qwen2_vl``.
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


def picture_tokens(vision: VisionShape, width: int, height: int, min_pixels: int, max_pixels: int) -> int:
    """Tokens that the language model sees of one picture: 224 x 224 with patches of 14 merged 2 x 2 gives 64."""
    if vision.fixed_tokens is not None:
        return vision.fixed_tokens
    factor = vision.patch * vision.merge
    wide, high = smart_resize(width, height, factor, min_pixels, max_pixels)
    return (wide // factor) * (high // factor)


def most_picture_tokens(vision: VisionShape, max_pixels: int) -> int:
    """The most tokens that a picture of up to ``max_pixels`` becomes: 1003520 with merged patches of 28 gives 1280."""
    if vision.fixed_tokens is not None:
        return vision.fixed_tokens
    return max(1, max_pixels // (vision.patch * vision.merge) ** 2)


def patches(vision: VisionShape, tokens: int) -> int:
    """Patches that the vision tower works on for ``tokens`` picture tokens."""
    if vision.fixed_tokens is not None and vision.fixed_pixels is not None:
        return math.ceil(tokens / vision.fixed_tokens) * (vision.fixed_pixels // vision.patch) ** 2
    return tokens * vision.merge**2
