"""What bad data is told as: one line a problem, naming file and row, the reason and the fix."""

from __future__ import annotations

from collections.abc import Sequence

from model_garden.datasets.origin import Origin

LISTED = 20
"""Problems that a message lists one by one; the rest are counted."""


class DatasetError(ValueError):
    """The data set cannot be trained on. ``problems`` holds one line each: where, what, and how to mend it."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class RowError(ValueError):
    """One row is broken; it is known by its reader, which adds file and row."""

    def __init__(self, reason: str, fix: str) -> None:
        self.reason, self.fix = reason, fix
        super().__init__(f"{reason}; {fix}")

    def at(self, origin: Origin) -> str:
        """The problem in one line."""
        return f"{origin}: {self}"

    def __reduce__(self) -> tuple[type[RowError], tuple[str, str]]:
        """Pickle by its two parts, for the checking processes."""
        return type(self), (self.reason, self.fix)


def shown(value: object, room: int = 80) -> str:
    """``value`` as a message shows it: its repr, cut to ``room`` characters."""
    text = repr(value)
    return text if len(text) <= room else f"{text[: room - 1]}…"


def kind_of(value: object) -> str:
    """The JSON name of a value's type, as people who write JSON know it."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), f"of type {type(value).__name__}")
