"""An answer: beside what was expected, without its reasoning, and the file of all answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FILE = "evaluation.jsonl"
"""In the output folder: one line for each row, with its answers and their scores."""


@dataclass(frozen=True)
class Answered:
    """The accepted answers of a row, of which there is at least one, and the answer of a model."""

    accepted: Sequence[str]
    answer: str


def spoken(answer: str) -> str:
    """An answer without the reasoning before it, which ends with ``</think>`` in most models that reason."""
    return answer.rpartition("</think>")[2]
