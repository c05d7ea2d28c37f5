"""Reads values of a row: texts and lists."""

from __future__ import annotations

from typing import Any

from model_garden.datasets.errors import RowError, kind_of, shown


def as_text(value: Any, name: str, *, empty: bool = False) -> str:
    """``value`` as text.

    Raises:
        RowError: it is not text, cannot be encoded as UTF-8, or is blank and ``empty`` is False.
    """
    if not isinstance(value, str):
        raise RowError(f"{name} is {kind_of(value)} ({shown(value)}), not text", "write it as text, in quotes")
    if not empty and not value.strip():
        raise RowError(f"{name} is empty", "fill it in or remove the row")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RowError(
            f"{name} contains an invalid character ({value[error.start]!a}, an unpaired surrogate, at position "
            f"{error.start})",
            "save the text as UTF-8",
        ) from None
    return value


def is_utf8(text: str) -> bool:
    """Whether ``text`` has no unpaired surrogate, which ``as_text`` refuses."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_list(value: Any, name: str) -> list[Any]:
    """``value`` as a list; raises RowError if it is not a list or is empty."""
    if not isinstance(value, list):
        raise RowError(f"{name} is {kind_of(value)} ({shown(value)}), not a list", f"write {name} as a list […]")
    if not value:
        raise RowError(f"{name} is an empty list", "fill it in or remove the row")
    return value
