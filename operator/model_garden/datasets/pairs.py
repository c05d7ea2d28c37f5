"""The two conversations of a row of preferences: the same prompt, and two different answers."""

from __future__ import annotations

from collections.abc import Sequence

from model_garden.datasets.errors import RowError, shown
from model_garden.datasets.example import Message


def check_pair(chosen: Sequence[Message], rejected: Sequence[Message]) -> None:
    """Refuse a pair that teaches nothing, or more than the difference of two answers.

    Raises:
        RowError: the answers are equal, or the turns before them differ.
    """
    for number, (one, other) in enumerate(zip(chosen[:-1], rejected[:-1], strict=False), 1):
        if one != other:
            raise RowError(
                f"the chosen and the rejected conversation differ in turn {number}, before their last turn",
                "let them differ in the last answer alone, or remove the row",
            )
    if len(chosen) != len(rejected):
        raise RowError(
            f"the chosen conversation has {len(chosen)} turns, and the rejected one has {len(rejected)}",
            "let them differ in the last answer alone, or remove the row",
        )
    answers = [(message.text.strip(), message.details) for message in (chosen[-1], rejected[-1])]
    if answers[0] == answers[1]:
        raise RowError(
            f"the chosen and the rejected answer are equal ({shown(answers[0][0])})",
            "remove the row, since no preference can be learned from it",
        )
