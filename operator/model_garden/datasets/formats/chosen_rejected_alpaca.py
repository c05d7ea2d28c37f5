"""Preferences as LLaMA-Factory's Alpaca format has them."""

from __future__ import annotations

from model_garden.datasets.example import Kind
from model_garden.datasets.formats.alpaca import instruction
from model_garden.datasets.formats.base import Format, Row
from model_garden.datasets.turns import Turn


def _chosen(row: Row) -> tuple[Kind, list[Turn]]:
    return "chat", [instruction(row), Turn("assistant", [row.text("chosen")])]


def _rejected(row: Row) -> list[Turn]:
    return [instruction(row), Turn("assistant", [row.text("rejected")])]


FORMAT = Format(
    required=("instruction", "chosen", "rejected"),
    optional=("input", "system"),
    shape='{"instruction", "input", "chosen", "rejected"}',
    about="LLaMA-Factory: an instruction and two answers; `input` is optional",
    read=_chosen,
    rejected=_rejected,
    methods=("dpo", "orpo"),
)
