"""The formats of rows, one in each module of this package.

To add a format, add a module with a ``FORMAT``. It is found here, and listed in messages and in the documentation.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from model_garden.datasets.errors import RowError
from model_garden.datasets.formats.base import IMAGE_COLUMNS, Format, missing
from model_garden.datasets.keys import unread


def _discovered() -> tuple[Format, ...]:
    """All formats, the most specific first: those that list turns, then those that require most columns."""
    modules = (import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    formats = [module.FORMAT for module in modules if hasattr(module, "FORMAT")]
    return tuple(sorted(formats, key=lambda one: (not one.lists_turns, -len(one.required))))


FORMATS = _discovered()


def format_of(fields: Mapping[str, Any], *, vision: bool) -> Format:
    """The most specific format whose required columns a row has.

    Raises:
        RowError: there is none. If a single column is missing, the message names it.
    """
    for candidate in FORMATS:
        if fields.keys() >= set(candidate.required):
            return candidate
    unread(fields, IMAGE_COLUMNS, "row of turns", "the row")
    closest = [one for one in FORMATS if len(one.required) > 1 and fields.keys() & set(one.required)]
    lacking = {key for one in closest for key in one.required if key not in fields}
    if len(closest) == 1 and len(lacking) == 1:
        raise missing(lacking.pop())
    keys = ", ".join(f'"{key}"' for key in fields) or "none"
    raise RowError(f"the row has no known format (its keys: {keys})", f"accepted: {accepted(vision=vision)}")


def accepted(*, vision: bool) -> str:
    """The formats for a kind of model, for messages."""
    *shapes, last = [one.shape for one in FORMATS if ("vision" if vision else "text") in one.models]
    return f"{', '.join(shapes)} or {last}" + (', with images in "image" or "images"' if vision else "")


def markdown_table() -> str:
    """The table of formats in the documentation."""
    rows = [f"| `{one.shape}` | {', '.join(one.models)} | {one.about} |" for one in FORMATS]
    return "\n".join(["| row | models | what it holds |", "|---|---|---|", *rows])
