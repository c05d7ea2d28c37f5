"""KTO's rows as LLaMA-Factory's Alpaca format has them."""

from __future__ import annotations

from model_garden.datasets.formats import alpaca
from model_garden.datasets.formats.base import Format, Row
from model_garden.datasets.formats.labels import wanted


def _label(row: Row) -> bool:
    return wanted(row, "kto_tag")


FORMAT = Format(
    required=("instruction", "output", "kto_tag"),
    optional=("input", "system"),
    shape='{"instruction", "input", "output", "kto_tag"}',
    about="LLaMA-Factory: an instruction, an answer, and whether the answer is wanted",
    read=alpaca.FORMAT.read,
    label=_label,
    methods=("kto",),
)
