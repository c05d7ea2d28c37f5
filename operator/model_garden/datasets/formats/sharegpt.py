"""Conversations in the format of ShareGPT and LLaVA."""

from __future__ import annotations

from model_garden.datasets.example import Kind
from model_garden.datasets.formats.base import Format, Row
from model_garden.datasets.turns import Turn


def _read(row: Row) -> tuple[Kind, list[Turn]]:
    return "chat", row.turns("conversations")


FORMAT = Format(
    required=("conversations",),
    shape='{"conversations": [{"from", "value"}, …]}',
    about="ShareGPT: the same with the roles `human`, `gpt`, `function_call` and `observation`; `<image>` in a text "
    "marks the place of an image",
    read=_read,
    lists_turns=True,
)
