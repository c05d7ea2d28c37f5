"""Errors of data sets: one line for each problem, with file, row, reason and fix."""

from __future__ import annotations

import re
from collections.abc import Sequence

from model_garden.datasets.origin import Origin

LISTED = 20
"""The most problems that a message lists; the others are counted."""


def _address(ends: str) -> re.Pattern[str]:
    """What matches an address after its scheme: its user and password, its host and path, its query and fragment.

    A password may hold any character, since not every address that a row gives is a valid one.

    Args:
        ends: the characters that end an address, as in a class of a regular expression.
    """
    user = rf"[^/?#{ends}]*@|[^/?#:\[{ends}]*:(?!\d+[/?#])[^{ends}]*@"
    return re.compile(rf"://(?:{user})?([^?#{ends}]*)([?#][^{ends}]*)?")


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_WHOLE, _IN_TEXT = _address(r"\0"), _address(r"\s'\"")


class DatasetError(ValueError):
    """The data set cannot be trained on. ``problems`` has one line for each problem: file and row, reason, and fix."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class RowError(ValueError):
    """A row cannot be trained on. The caller adds its file and number with ``at``."""

    def __init__(self, reason: str, fix: str) -> None:
        self.reason, self.fix = reason, fix
        super().__init__(f"{reason}; {fix}")

    def at(self, origin: Origin) -> str:
        """The problem in one line."""
        return f"{origin}: {self}"

    def __reduce__(self) -> tuple[type[RowError], tuple[str, str]]:
        """Pickle the reason and the fix, for the processes that check rows."""
        return type(self), (self.reason, self.fix)


class UnknownFormat(RowError):
    """A row has the columns of no format. ``columns`` is a ``columnMapping`` that may read it, or empty."""

    def __init__(self, reason: str, fix: str, columns: dict[str, str]) -> None:
        self.columns = columns
        super().__init__(reason, fix)

    def __reduce__(self) -> tuple[type[UnknownFormat], tuple[str, str, dict[str, str]]]:  # type: ignore[override]
        return type(self), (self.reason, self.fix, self.columns)


def without_secrets(text: str) -> str:
    """An address, or a text with addresses, for a message: without user and password, and with ``?…`` as the query.

    Signed addresses hold a key in their query.
    """
    pattern = _WHOLE if _SCHEME.match(text) else _IN_TEXT
    return pattern.sub(lambda found: f"://{found[1]}{'?…' if found[2] else ''}", text)


def shown(value: object, width: int = 80) -> str:
    """The repr of ``value`` for a message, cut to ``width`` characters, and without the secrets of addresses in it."""
    text = repr(without_secrets(value)) if isinstance(value, str) else without_secrets(repr(value))
    return text if len(text) <= width else f"{text[: width - 1]}…"


def kind_of(value: object) -> str:
    """The type of a value in JSON."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), f"of type {type(value).__name__}")
