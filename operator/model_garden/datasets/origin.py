"""The origin of a row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """The file of a row and its number, from 1. In a JSONL file, it is the line number."""

    file: str
    row: int

    def __str__(self) -> str:
        """``FILE row N``, as in messages."""
        return f"{self.file} row {self.row}"
