"""Where a row comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """A row's file and its number, from 1, as an editor counts the lines of a JSONL file."""

    file: str
    row: int

    def __str__(self) -> str:
        """As messages name it: ``FILE row N``."""
        return f"{self.file} row {self.row}"
