"""Text without turns, trained on as a whole."""

from __future__ import annotations

from model_garden.datasets.errors import RowError
from model_garden.datasets.example import Kind
from model_garden.datasets.formats.base import Format, Row
from model_garden.datasets.turns import Turn


def _read(row: Row) -> tuple[Kind, list[Turn]]:
    if row.vision:
        raise RowError(
            'the row has "text" and no "response", and the job trains a vision-language model',
            'add "response" (and "image" or "images"), or write the row as "messages"',
        )
    return "text", [Turn("assistant", [row.text("text")])]


FORMAT = Format(
    required=("text",),
    optional=(),
    shape='{"text"}',
    about="plain text, trained on as a whole",
    models=("text",),
    read=_read,
)
