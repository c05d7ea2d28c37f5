"""Conversations in OpenAI's format."""

from __future__ import annotations

from model_garden.datasets.example import Kind
from model_garden.datasets.formats.base import Format, Row
from model_garden.datasets.turns import Turn


def _read(row: Row) -> tuple[Kind, list[Turn]]:
    return "chat", row.turns("messages")


FORMAT = Format(
    required=("messages",),
    shape='{"messages": [{"role", "content"}, …]}',
    about='a conversation; `content` is text, or a list of parts `{"type": "text"}`, '
    '`{"type": "image", "image": …}` and `{"type": "image_url", …}`. Every role, turn and image is kept, '
    "with reasoning, tool calls and their results",
    read=_read,
    lists_turns=True,
)
