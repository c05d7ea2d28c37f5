"""A question about images, and its answer."""

from __future__ import annotations

from model_garden.datasets.errors import RowError
from model_garden.datasets.example import Kind
from model_garden.datasets.formats.base import Format, Row
from model_garden.datasets.turns import Turn


def _read(row: Row) -> tuple[Kind, list[Turn]]:
    if not row.vision:
        raise RowError(
            'the row has the key "response" of the vision format, but the job trains a text model',
            'set isVision: true, or call the columns "prompt" and "completion"',
        )
    question, answer = row.text("text"), row.text("response")
    if not row.pictures:
        raise RowError('"image" is missing', 'add "image" or "images"; a row without an image is written as "messages"')
    return "chat", [Turn("user", [question]), Turn("assistant", [answer])]


FORMAT = Format(
    required=("text", "response"),
    shape='{"text", "image", "response"}',
    about='one question about one image, or about several in `"images": […]`',
    models=("vision",),
    read=_read,
)
