"""Preferences as LLaMA-Factory's ShareGPT format has them."""

from __future__ import annotations

from model_garden.datasets.example import Kind
from model_garden.datasets.formats.base import Format, Row
from model_garden.datasets.formats.preferences import answer, messages
from model_garden.datasets.turns import Turn, conversation


def _chosen(row: Row) -> tuple[Kind, list[Turn]]:
    return "chat", _turns(row, "chosen")


def _rejected(row: Row) -> list[Turn]:
    return _turns(row, "rejected")


def _turns(row: Row, column: str) -> list[Turn]:
    return conversation(messages(row, "conversations", row.fields["conversations"]), answer(row, column), column)


FORMAT = Format(
    required=("conversations", "chosen", "rejected"),
    shape='{"conversations": [{"from", "value"}, …], "chosen", "rejected"}',
    about="LLaMA-Factory: a conversation that ends with a user's turn, and two answers, each an object with `from` and "
    "`value`",
    read=_chosen,
    rejected=_rejected,
    lists_turns=True,
    methods=("dpo", "orpo"),
)
