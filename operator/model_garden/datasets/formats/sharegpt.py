"""Conversations in the format of ShareGPT and LLaVA."""

from __future__ import annotations

from model_garden.datasets.example import Kind, Role
from model_garden.datasets.formats.base import ROLES, Format, Row
from model_garden.datasets.turns import Turn

_ROLES: dict[str, Role] = ROLES | {"human": "user", "gpt": "assistant"}


def _read(row: Row) -> tuple[Kind, list[Turn]]:
    return "chat", row.turns("conversations", "from", "value", _ROLES)


FORMAT = Format(
    required=("conversations",),
    shape='{"conversations": [{"from", "value"}, …]}',
    about="ShareGPT: the same with the roles `human` and `gpt`; `<image>` in a text marks the place of an image",
    read=_read,
    lists_turns=True,
)
