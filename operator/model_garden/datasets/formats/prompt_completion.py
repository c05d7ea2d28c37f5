"""A prompt and its completion: two texts, or two lists of messages."""

from __future__ import annotations

from model_garden.datasets.example import Kind
from model_garden.datasets.formats.base import Format, Row
from model_garden.datasets.turns import Turn, conversation, excluded


def _read(row: Row) -> tuple[Kind, list[Turn]]:
    if isinstance(row.fields["prompt"], list) or isinstance(row.fields["completion"], list):
        return "chat", _turns(row)
    prompt, completion = row.text("prompt"), row.text("completion")
    return "chat" if row.vision else "completion", [Turn("user", [prompt]), Turn("assistant", [completion])]


def _turns(row: Row) -> list[Turn]:
    """All turns. As in TRL, the answers in the prompt carry no loss."""
    return conversation([excluded(turn) for turn in row.turns("prompt")], row.turns("completion"), "completion")


FORMAT = Format(
    required=("prompt", "completion"),
    shape='{"prompt", "completion"}',
    about="two texts, which a text model reads without its chat template; or two lists of messages, "
    "where answers in `prompt` carry no loss",
    read=_read,
)
