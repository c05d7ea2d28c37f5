"""Sizes of images in pixels: how images are scaled, and which sizes can be trained on."""

from __future__ import annotations

import math

from model_garden.datasets.errors import RowError

MAX_PIXELS = 89_478_485
"""The limit of Pillow. A larger image needs over 256 MiB when decoded and is a mistake or an attack."""
MAX_ASPECT_RATIO = 200
"""The models' processors refuse images with one side this many times the other or more."""
MIN_SIDE = 4
"""Image processors that guess the layout of an array mistake a side of 1 or 3 pixels for the color channels."""

Size = tuple[int, int]
"""Width and height in pixels."""
Bounds = tuple[int | None, int | None]
"""The smallest and the largest area in pixels; None means no bound."""


def bounded(size: Size, min_pixels: int | None, max_pixels: int | None) -> Size:
    """``size`` scaled so that its area is within the bounds; unchanged if it is already.

    The shorter side is rounded down first, and the longer side is computed from it, so that rounding never raises the
    aspect ratio above ``MAX_ASPECT_RATIO``.
    """
    area = size[0] * size[1]
    target = min(max(area, min_pixels or 0), max_pixels or area)
    if target == area:
        return size
    short, long = sorted(size)
    scaled = max(1, int(short * math.sqrt(target / area)))
    other = scaled * long // short
    return (scaled, other) if size[0] <= size[1] else (other, scaled)


def check_size(size: Size, name: str) -> None:
    """Refuse an image whose stored size cannot be trained on.

    Raises:
        RowError: it has too many pixels, too large an aspect ratio, or a side that is too short.
    """
    width, height = size
    if width * height > MAX_PIXELS:
        raise RowError(f"{name} has {width} x {height} pixels, more than {MAX_PIXELS}", "scale it down")
    if max(size) >= MAX_ASPECT_RATIO * min(size):
        raise RowError(
            f"{name} is {width} x {height}: one side is {MAX_ASPECT_RATIO} times the other or more", "crop or pad it"
        )
    if min(size) < MIN_SIDE:
        raise RowError(f"{name} is {width} x {height}: a side is below {MIN_SIDE} pixels", "use a larger image")


def check_scaled(size: Size, name: str, bounds: Bounds) -> None:
    """Refuse an image that cannot be trained on after it is scaled to the bounds of the job.

    Raises:
        RowError: a side becomes too short.
    """
    width, height = bounded(size, *bounds)
    if min(width, height) < MIN_SIDE:
        raise RowError(
            f"{name} is {size[0]} x {size[1]}, scaled to {width} x {height}: a side is below {MIN_SIDE} pixels",
            "raise imageOptions.maxPixels, or crop the image",
        )
