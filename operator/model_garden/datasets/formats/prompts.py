"""How the formats of GRPO read a prompt and the expected answer."""

from __future__ import annotations

from typing import Any

from model_garden.datasets.columns import UNMAPPED
from model_garden.datasets.formats.base import Row
from model_garden.datasets.turns import Turn

ANSWERS = ("answer", "solution", "ground_truth", "completion", "response")
"""Columns with the expected answer; of several, the first counts."""
UNKNOWN = "…"
"""Stands for the answer of a row that has none: the model writes its own, and this text is never trained on."""


def expected(columns: dict[str, Any]) -> str:
    """The expected answer, by which the row is measured and shown."""
    found = next((columns[name] for name in ANSWERS if columns.get(name) not in (None, "")), UNKNOWN)
    return found if isinstance(found, str) else str(found)


def others(row: Row, *read: str) -> dict[str, Any]:
    """The columns of a row, by their own names, but for those that are read as its prompt or its images."""
    kept = {name: value for name, value in row.fields.items() if name not in (*read, "image", "images", "system")}
    return {name.removesuffix(UNMAPPED): value for name, value in kept.items()}


def answered(turns: list[Turn], columns: dict[str, Any]) -> list[Turn]:
    """The turns of a prompt with the expected answer after them."""
    return [*turns, Turn("assistant", [expected(columns)])]
