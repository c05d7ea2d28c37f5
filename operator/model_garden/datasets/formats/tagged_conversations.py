"""KTO's rows as LLaMA-Factory's ShareGPT format has them."""

from __future__ import annotations

from dataclasses import replace

from model_garden.datasets.example import Kind
from model_garden.datasets.formats import tagged_turns
from model_garden.datasets.formats.base import Row
from model_garden.datasets.formats.preferences import messages
from model_garden.datasets.turns import Turn


def _read(row: Row) -> tuple[Kind, list[Turn]]:
    return "chat", messages(row, "conversations", row.fields["conversations"])


FORMAT = replace(
    tagged_turns.FORMAT,
    required=("conversations", "kto_tag"),
    shape='{"conversations": [{"from", "value"}, …], "kto_tag"}',
    about="LLaMA-Factory: ShareGPT turns, and whether the last answer is wanted",
    read=_read,
)
