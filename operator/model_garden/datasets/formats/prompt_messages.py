"""A conversation whose last answer is the expected one, for reward functions."""

from __future__ import annotations

from typing import Any

from model_garden.datasets.errors import RowError
from model_garden.datasets.example import Kind
from model_garden.datasets.formats.base import Format, Row
from model_garden.datasets.formats.prompts import answered, others
from model_garden.datasets.turns import Turn


def _read(row: Row) -> tuple[Kind, list[Turn]]:
    turns = row.turns("messages")
    return "chat", answered(turns[:-1] if turns[-1].role == "assistant" else turns, _columns(row))


def _columns(row: Row) -> dict[str, Any]:
    last = row.turns("messages")[-1]
    columns = others(row, "messages")
    if last.role == "assistant" and "answer" in columns:
        raise RowError('the row has "answer", and its last turn is an expected answer too', "keep one of them")
    if last.role == "assistant":
        columns["answer"] = "".join(part for part in last.parts if isinstance(part, str))
    return columns


FORMAT = Format(
    required=("messages",),
    shape='{"messages": [{"role", "content"}, …], …}',
    about="the rows of `sft`: the last answer is the expected one, in the column `answer`; reward functions get all "
    "other columns",
    read=_read,
    columns=_columns,
    lists_turns=True,
    methods=("grpo",),
)
