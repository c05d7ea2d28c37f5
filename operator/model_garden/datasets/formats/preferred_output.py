"""Preferences as OpenAI's fine-tuning API has them."""

from __future__ import annotations

from model_garden.datasets.errors import RowError, kind_of
from model_garden.datasets.example import Kind
from model_garden.datasets.formats.base import Format, Row
from model_garden.datasets.formats.preferences import answer, messages
from model_garden.datasets.keys import unread
from model_garden.datasets.turns import Turn, conversation


def _preferred(row: Row) -> tuple[Kind, list[Turn]]:
    return "chat", _turns(row, "preferred_output")


def _not_preferred(row: Row) -> list[Turn]:
    return _turns(row, "non_preferred_output")


def _turns(row: Row, column: str) -> list[Turn]:
    given = row.fields["input"]
    if not isinstance(given, dict) or "messages" not in given:
        raise RowError(f'"input" is {kind_of(given)} without "messages"', 'write it as {"messages": [{"role", …}, …]}')
    row.ignored += [f"input.{key}" for key in unread(given, ("messages",), "row of turns", '"input"')]
    return conversation(messages(row, "input.messages", given["messages"]), answer(row, column), column)


FORMAT = Format(
    required=("input", "preferred_output", "non_preferred_output"),
    shape='{"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}',
    about="OpenAI: a conversation that ends with a user's turn, and two answers as lists of one message",
    read=_preferred,
    rejected=_not_preferred,
    lists_turns=True,
    methods=("dpo", "orpo"),
)
