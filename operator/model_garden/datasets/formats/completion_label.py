"""KTO's rows as TRL has them: a prompt, an answer, and whether it is wanted."""

from __future__ import annotations

from model_garden.datasets.example import Kind
from model_garden.datasets.formats.base import Format, Row
from model_garden.datasets.formats.labels import wanted
from model_garden.datasets.formats.preferences import answer, messages
from model_garden.datasets.turns import Turn


def _read(row: Row) -> tuple[Kind, list[Turn]]:
    prompt, completion = row.fields["prompt"], row.fields["completion"]
    texts = isinstance(prompt, str) and isinstance(completion, str)
    asked: list[Turn] = (
        messages(row, "prompt", prompt) if isinstance(prompt, list) else [Turn("user", [row.text("prompt")])]
    )
    return "completion" if texts and not row.vision else "chat", asked + answer(row, "completion")


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
