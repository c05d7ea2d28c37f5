"""How the formats of preferences read a prompt and its two answers."""

from __future__ import annotations

import dataclasses
from typing import Any

from model_garden.datasets.errors import RowError, kind_of, shown
from model_garden.datasets.formats.base import Row
from model_garden.datasets.turns import Turn


def prompt(row: Row) -> list[Turn]:
    """The turns of the column ``prompt``: a text, or a list of messages.

    Raises:
        RowError: it is neither.
    """
    value = row.fields["prompt"]
    return messages(row, "prompt", value) if isinstance(value, list) else [Turn("user", [row.text("prompt")])]


def answer(row: Row, column: str) -> list[Turn]:
    """The turns of a column that has an answer: a text, one message, or a list of messages.

    Raises:
        RowError: it is none of them.
    """
    value = row.fields[column]
    if isinstance(value, str):
        return [Turn("assistant", [row.text(column)])]
    if isinstance(value, (list, dict)):
        return messages(row, column, value if isinstance(value, list) else [value])
    raise RowError(f'"{column}" is {kind_of(value)} ({shown(value)})', "write it as text, or as a list of messages")


def messages(row: Row, name: str, value: Any) -> list[Turn]:
    """The turns of a list of messages with ``role`` and ``content``, or with ``from`` and ``value``.

    Args:
        row: the row that has them.
        name: their name in messages.
        value: the list.

    Raises:
        RowError: it is no such list.
    """
    part = dataclasses.replace(row, fields={name: value})  # keys that are not read are added to the same list
    return part.turns(name)
