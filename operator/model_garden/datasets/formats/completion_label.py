"""KTO's rows as TRL has them: a prompt, an answer, and whether it is wanted."""

from __future__ import annotations

from model_garden.datasets.example import Kind
from model_garden.datasets.formats.base import Format, Row
from model_garden.datasets.formats.labels import wanted
from model_garden.datasets.formats.preferences import answer, prompt
from model_garden.datasets.turns import Turn, conversation


def _read(row: Row) -> tuple[Kind, list[Turn]]:
    texts = all(isinstance(row.fields[column], str) for column in ("prompt", "completion"))
    turns = conversation(prompt(row), answer(row, "completion"), "completion")
    return "completion" if texts and not row.vision else "chat", turns


def _label(row: Row) -> bool:
    return wanted(row, "label")


FORMAT = Format(
    required=("prompt", "completion", "label"),
    shape='{"prompt", "completion", "label"}',
    about="a prompt, an answer, and whether the answer is wanted (`true` or `false`); texts or lists of messages",
    read=_read,
    label=_label,
    methods=("kto",),
)
