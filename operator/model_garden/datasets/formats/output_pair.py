"""Preferences as older data sets of LLaMA-Factory have them: the two answers in one column."""

from __future__ import annotations

from dataclasses import replace

from model_garden.datasets.errors import RowError, shown
from model_garden.datasets.example import Kind
from model_garden.datasets.formats import alpaca
from model_garden.datasets.formats.base import Format, Row
from model_garden.datasets.turns import Turn


def _chosen(row: Row) -> tuple[Kind, list[Turn]]:
    return _with(row, 0)


def _rejected(row: Row) -> list[Turn]:
    return _with(row, 1)[1]


def _with(row: Row, which: int) -> tuple[Kind, list[Turn]]:
    found = row.fields["output"]
    if not isinstance(found, list) or len(found) != 2:
        raise RowError(
            f'"output" is {shown(found)}, and a row of preferences has two answers',
            'write the chosen and the rejected answer as "chosen" and "rejected", or "output" as a list of both',
        )
    return alpaca.FORMAT.read(replace(row, fields={**row.fields, "output": found[which]}))


FORMAT = Format(
    required=("instruction", "output"),
    optional=("input", "system"),
    shape='{"instruction", "input", "output": [chosen, rejected]}',
    about="LLaMA-Factory: an instruction, and a list of the chosen and the rejected answer; `input` is optional",
    read=_chosen,
    rejected=_rejected,
    methods=("dpo", "orpo"),
    when=lambda fields: isinstance(fields["output"], list),
)
