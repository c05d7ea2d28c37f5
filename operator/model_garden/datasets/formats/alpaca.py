"""Alpaca: an instruction, its input and the output."""

from __future__ import annotations

from model_garden.datasets.example import Kind
from model_garden.datasets.formats.base import Format, Row
from model_garden.datasets.turns import Turn


def instruction(row: Row) -> Turn:
    """The instruction of a row, with its input if it has one."""
    text, extra = row.text("instruction"), row.text("input", empty=True)
    return Turn("user", [f"{text}\n\n{extra}" if extra.strip() else text])


def _read(row: Row) -> tuple[Kind, list[Turn]]:
    return "chat", [instruction(row), Turn("assistant", [row.text("output")])]


FORMAT = Format(
    required=("instruction", "output"),
    optional=("input", "system"),
    shape='{"instruction", "input", "output"}',
    about="Alpaca: an instruction and its answer; `input` is optional",
    read=_read,
)
