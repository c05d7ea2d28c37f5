"""A prompt, and columns for reward functions, as TRL has them."""

from __future__ import annotations

from typing import Any

from model_garden.datasets.example import Kind
from model_garden.datasets.formats.base import Format, Row
from model_garden.datasets.formats.preferences import messages
from model_garden.datasets.formats.prompts import answered, others
from model_garden.datasets.turns import Turn


def _read(row: Row) -> tuple[Kind, list[Turn]]:
    prompt = row.fields["prompt"]
    if isinstance(prompt, list):
        return "chat", answered(messages(row, "prompt", prompt), _columns(row))
    kind: Kind = "chat" if row.vision else "completion"
    return kind, answered([Turn("user", [row.text("prompt")])], _columns(row))


def _columns(row: Row) -> dict[str, Any]:
    return others(row, "prompt")


FORMAT = Format(
    required=("prompt",),
    shape='{"prompt", "answer", …}',
    about="a prompt, a text or a list of messages; reward functions get all other columns. A text is read by a text "
    "model without its chat template",
    read=_read,
    columns=_columns,
    methods=("grpo",),
)
