"""Alpaca: an instruction, its input and the output."""

from __future__ import annotations

from model_garden.datasets.example import Kind
from model_garden.datasets.formats.base import Format, Row
from model_garden.datasets.turns import Turn


def _read(row: Row) -> tuple[Kind, list[Turn]]:
    instruction, extra, answer = row.text("instruction"), row.text("input", empty=True), row.text("output")
    prompt = f"{instruction}\n\n{extra}" if extra.strip() else instruction
    return "chat", [Turn("user", [prompt]), Turn("assistant", [answer])]


FORMAT = Format(
    required=("instruction", "output"),
    optional=("input", "system"),
    shape='{"instruction", "input", "output"}',
    about="Alpaca: an instruction and its answer; `input` is optional",
    read=_read,
)
