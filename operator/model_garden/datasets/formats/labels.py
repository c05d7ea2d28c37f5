"""How the formats of KTO read whether an answer is wanted."""

from __future__ import annotations

from model_garden.datasets.errors import RowError, kind_of, shown
from model_garden.datasets.formats.base import Row


def wanted(row: Row, column: str) -> bool:
    """The label of a column: true for a wanted answer, false for an unwanted one.

    Raises:
        RowError: it is neither true nor false, nor 1 or 0.
    """
    value = row.fields[column]
    if value in (0, 1):  # True and False are equal to them
        return bool(value)
    raise RowError(
        f'"{column}" is {kind_of(value)} ({shown(value)})',
        "write true for a wanted answer and false for an unwanted one",
    )
