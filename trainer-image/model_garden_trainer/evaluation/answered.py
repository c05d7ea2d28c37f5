"""An answer beside what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Answered:
    """The accepted answers of a row, of which there is at least one, and the answer of a model."""

    accepted: Sequence[str]
    answer: str
