"""An instruction in Alpaca's columns, and columns for reward functions."""

from __future__ import annotations

from typing import Any

from model_garden.datasets.errors import RowError
from model_garden.datasets.example import Kind
from model_garden.datasets.formats.alpaca import instruction
from model_garden.datasets.formats.base import Format, Row
from model_garden.datasets.formats.prompts import answered, others
from model_garden.datasets.turns import Turn


def _read(row: Row) -> tuple[Kind, list[Turn]]:
    return "chat", answered([instruction(row)], _columns(row))


def _columns(row: Row) -> dict[str, Any]:
    columns = others(row, "instruction", "input", "output")
    if row.fields.get("output") in (None, ""):
        return columns
    if "answer" in columns:
        raise RowError('the row has "answer", and "output" is an expected answer too', "keep one of them")
    return columns | {"answer": row.fields["output"]}


FORMAT = Format(
    required=("instruction",),
    optional=("input", "output", "system"),
    shape='{"instruction", "input", "output", …}',
    about="an instruction; `output` is the expected answer, in the column `answer`; reward functions get all other "
    "columns",
    read=_read,
    columns=_columns,
    methods=("grpo",),
)
