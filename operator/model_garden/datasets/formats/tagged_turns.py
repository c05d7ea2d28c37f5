"""KTO's rows as LLaMA-Factory has them: a conversation, and whether its last answer is wanted."""

from __future__ import annotations

from model_garden.datasets.example import Kind
from model_garden.datasets.formats.base import Format, Row
from model_garden.datasets.formats.labels import wanted
from model_garden.datasets.formats.preferences import messages
from model_garden.datasets.turns import Turn


def _read(row: Row) -> tuple[Kind, list[Turn]]:
    return "chat", messages(row, "messages", row.fields["messages"])


def _label(row: Row) -> bool:
    return wanted(row, "kto_tag")


FORMAT = Format(
    required=("messages", "kto_tag"),
    shape='{"messages": [{"role", "content"}, …], "kto_tag"}',
    about="LLaMA-Factory: a conversation, and whether its last answer is wanted",
    read=_read,
    label=_label,
    lists_turns=True,
    methods=("kto",),
)
