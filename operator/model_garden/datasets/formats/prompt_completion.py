"""A prompt and its completion: two texts, or two lists of messages."""

from __future__ import annotations

from model_garden.datasets.errors import RowError
from model_garden.datasets.example import Kind
from model_garden.datasets.formats.base import Format, Row
from model_garden.datasets.turns import Turn


def _read(row: Row) -> tuple[Kind, list[Turn]]:
    if isinstance(row.fields["prompt"], list) or isinstance(row.fields["completion"], list):
        return "chat", _turns(row)
    prompt, completion = row.text("prompt"), row.text("completion")
    return "chat" if row.vision else "completion", [("user", [prompt]), ("assistant", [completion])]


def _turns(row: Row) -> list[Turn]:
    prompt, completion = row.turns("prompt"), row.turns("completion")
    if any(role == "assistant" for role, _ in prompt):
        raise RowError(
            '"prompt" has assistant turns, which would be trained on as answers too',
            'write the row as "messages" if that is meant',
        )
    return prompt + completion


FORMAT = Format(
    required=("prompt", "completion"),
    shape='{"prompt", "completion"}',
    about="two texts, which a text model reads without its chat template; or two lists of messages",
    read=_read,
)
