"""Errors of data sets: one line for each problem, with file and row, the reason and the fix."""

from __future__ import annotations

from collections.abc import Sequence

from model_garden.datasets.origin import Origin

LISTED = 20
"""Problems that a message lists; the rest are counted."""


class DatasetError(ValueError):
    """The data set cannot be trained on. ``problems`` holds one line for each: where, what, and the fix."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class RowError(ValueError):
    """One row cannot be trained on. The caller knows its file and number, and adds them with ``at``."""

    def __init__(self, reason: str, fix: str) -> None:
        self.reason, self.fix = reason, fix
        super().__init__(f"{reason}; {fix}")

    def at(self, origin: Origin) -> str:
        """The problem in one line."""
        return f"{origin}: {self}"

    def __reduce__(self) -> tuple[type[RowError], tuple[str, str]]:
        """Pickle its two parts, for the processes that check rows."""
        return type(self), (self.reason, self.fix)


def shown(value: object, width: int = 80) -> str:
    """``value`` as a message shows it: its repr, cut to ``width`` characters."""
    text = repr(value)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def kind_of(value: object) -> str:
    """The name of a value's type as JSON calls it."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), f"of type {type(value).__name__}")
