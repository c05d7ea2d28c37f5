"""Boxes that an answer names, such as of objects in an image.

A model that counts pixels counts those of the image that it sees. Where training scales an image, boxes in pixels of
the stored image would teach other places than those meant.
"""

from __future__ import annotations

import re

from model_garden.datasets.example import Example
from model_garden.datasets.sizes import Bounds, Size, bounded

_BOX = re.compile(r"""["']b?box(es)?(_2d)?["']\s*:\s*\[|<\|box_start\|>|<box>|<bbox>""")


def scaled_under_boxes(example: Example, sizes: list[Size], bounds: Bounds) -> str | None:
    """How the first image is scaled whose row names boxes in an answer; None if there is none.

    Args:
        example: the row.
        sizes: the stored size of each of its images.
        bounds: the areas to which training scales images.
    """
    scaled = [(size, bounded(size, *bounds)) for size in sizes]
    changed = [pair for pair in scaled if pair[0] != pair[1]]
    if not changed or not any(
        message.role == "assistant" and _BOX.search(message.text) for message in example.messages
    ):
        return None
    (width, height), (new_width, new_height) = changed[0]
    return f"{example.origin}: {width} x {height} becomes {new_width} x {new_height} pixels"


def boxes_warning(rows: int, first: str) -> str:
    """The warning for ``rows`` rows whose images are scaled although their answers name boxes."""
    these = "1 row names boxes, and its image is" if rows == 1 else f"{rows:,} rows name boxes, and their images are"
    return (
        f"{these} scaled for training ({first}); boxes in pixels must be those of the scaled image. Scale images and "
        "boxes yourself, or change imageOptions.minPixels and maxPixels. Boxes as shares of the image stay right"
    )
