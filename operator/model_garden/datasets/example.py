"""An Example: a row of any format after conversion, with all its roles, turns and images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from model_garden.datasets.origin import Origin

Role = Literal["system", "user", "assistant", "tool"]
Kind = Literal["chat", "completion", "text"]


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image before it is decoded: a path, or the encoded bytes of a data URI or a Parquet column."""

    source: Path | bytes


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: its role and its parts in order, each a text or an image."""

    role: Role
    parts: tuple[str | ImageRef, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One row.

    ``chat``: the assistant turns are the answers. ``completion``: a prompt and its answer, joined without a chat
    template. ``text``: one message, trained on as a whole.

    A row of preferences has all turns with the chosen answer in ``messages`` and all turns with the rejected one in
    ``rejected``; they differ in the last. ``label`` says of a row for KTO whether its answer is wanted. Of such rows
    the last answer alone carries loss (``last_answer``).
    """

    kind: Kind
    messages: tuple[Message, ...]
    origin: Origin
    rejected: tuple[Message, ...] = ()
    last_answer: bool = False
    label: bool | None = None

    @property
    def sequences(self) -> tuple[Example, ...]:
        """What a model reads of the row: the row itself; or with the chosen and then with the rejected answer."""
        if not self.rejected:
            return (self,)
        return replace(self, rejected=()), replace(self, messages=self.rejected, rejected=())

    @property
    def images(self) -> list[ImageRef]:
        """All images of the row, in the order of its turns."""
        return [part for message in self.messages for part in message.parts if isinstance(part, ImageRef)]
