"""The formats of rows, one in each module of this package.

To add a format, add a module with a ``FORMAT``. It is found here, and listed in messages and in the documentation.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from model_garden.contract.methods import Method
from model_garden.datasets.columns import NAMES, suggested
from model_garden.datasets.errors import RowError, UnknownFormat
from model_garden.datasets.formats.base import IMAGE_COLUMNS, Format, missing
from model_garden.datasets.keys import unread


def _discovered() -> tuple[Format, ...]:
    """All formats, the most specific first: those of preferences, those that list turns, those that require most."""
    modules = (import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    formats = [module.FORMAT for module in modules if hasattr(module, "FORMAT")]
    return tuple(sorted(formats, key=lambda one: ("sft" in one.methods, not one.lists_turns, -len(one.required))))


FORMATS = _discovered()


def columns_read() -> frozenset[str]:
    """The columns that formats read."""
    named = {column for one in FORMATS for column in (*one.required, *one.optional)}
    return frozenset(named | set(IMAGE_COLUMNS) | set(NAMES.values()))


def format_of(fields: Mapping[str, Any], *, vision: bool, method: Method | None) -> Format:
    """The most specific format whose required columns a row has.

    Args:
        fields: the columns.
        vision: whether a vision-language model is trained.
        method: the training method; None accepts the rows of each.

    Raises:
        RowError: there is none. If a single column is missing, the message names it.
    """
    readable = _formats(method)
    for candidate in readable:
        if fields.keys() >= set(candidate.required) and (method or _is_of(candidate, fields)):
            return candidate
    other = next(
        (one for one in FORMATS if fields.keys() >= set(one.required) and not one.columns and one.when(fields)), None
    )
    if method in (None, "sft"):
        unread(fields, IMAGE_COLUMNS, "row of turns", "the row")
    elif other is not None:
        raise RowError(
            f"the row is for method: {' or '.join(other.methods)} ({other.shape}), and the job has method: {method}",
            f"set method: {other.methods[0]}, or write the row as {accepted(vision=vision, method=method)}",
        )
    lacking = [set(one.required) - fields.keys() for one in readable if len(one.required) > 1]
    almost = {key for keys in lacking if len(keys) == 1 for key in keys}
    columns = suggested(fields, method)
    if len(almost) == 1 and not columns:
        raise missing(almost.pop())
    keys = ", ".join(f'"{key}"' for key in fields) or "none"
    pairs = ", ".join(f"{role}: {column}" for role, column in columns.items())
    mapping = f"set columnMapping: {{{pairs}}}; or write another format; " if pairs else ""
    fix = f"{mapping}accepted: {accepted(vision=vision, method=method)}"
    raise UnknownFormat(f"the row has no known format (its keys: {keys})", fix, columns)


def accepted(*, vision: bool, method: Method | None) -> str:
    """The formats for a kind of model and a method, for messages."""
    shapes = [one.shape for one in _formats(method) if ("vision" if vision else "text") in one.models]
    *others, last = shapes
    listed = f"{', '.join(others)} or {last}" if others else last
    return listed + (', with images in "image" or "images"' if vision else "")


def _is_of(candidate: Format, fields: Mapping[str, Any]) -> bool:
    """Whether a row is of a format, where no method says it.

    The label of a format with one is a boolean: in other data sets, a label is the name of a class.
    """
    return candidate.when(fields) and (candidate.label is None or isinstance(fields[candidate.required[-1]], bool))


def _formats(method: Method | None) -> list[Format]:
    return [one for one in FORMATS if (not one.columns if method is None else method in one.methods)]


def markdown_table() -> str:
    """The table of formats in the documentation."""
    ordered = sorted(FORMATS, key=lambda one: "sft" not in one.methods)
    rows = [f"| `{one.shape}` | {', '.join(one.methods)} | {', '.join(one.models)} | {one.about} |" for one in ordered]
    return "\n".join(["| row | methods | models | what it holds |", "|---|---|---|---|", *rows])
