"""Preferences as TRL has them: a prompt, the chosen and the rejected answer."""

from __future__ import annotations

from model_garden.datasets.errors import RowError
from model_garden.datasets.example import Kind
from model_garden.datasets.formats.base import Format, Row
from model_garden.datasets.formats.preferences import answer, prompt
from model_garden.datasets.turns import Turn, conversation


def _chosen(row: Row) -> tuple[Kind, list[Turn]]:
    return _kind(row), _turns(row, "chosen")


def _rejected(row: Row) -> list[Turn]:
    return _turns(row, "rejected")


def _kind(row: Row) -> Kind:
    """Three texts are read without a chat template by a text model, as a prompt and its completion are."""
    columns = (row.fields.get(column) for column in ("prompt", "chosen", "rejected"))
    return "completion" if not row.vision and all(isinstance(value, str) for value in columns) else "chat"


def _turns(row: Row, column: str) -> list[Turn]:
    found = answer(row, column)
    if "prompt" not in row.fields:
        if len(found) < 2:
            raise RowError(
                f'"prompt" is missing, and "{column}" is no conversation',
                'add "prompt", or write "chosen" and "rejected" as conversations that begin with the same turns',
            )
        return found
    return conversation(prompt(row), found, column)


FORMAT = Format(
    required=("chosen", "rejected"),
    optional=("prompt", "system"),
    shape='{"prompt", "chosen", "rejected"}',
    about="a prompt and two answers, each a text or a list of messages. Without `prompt`, both are conversations that "
    "differ in their last turn. Three texts are read by a text model without its chat template",
    read=_chosen,
    rejected=_rejected,
    methods=("dpo", "orpo"),
)
