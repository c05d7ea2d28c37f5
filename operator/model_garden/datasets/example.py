"""An Example: a row of any format after conversion, with all its roles, turns and images."""

from __future__ import annotations

from dataclasses import dataclass
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
    """

    kind: Kind
    messages: tuple[Message, ...]
    origin: Origin

    @property
    def images(self) -> list[ImageRef]:
        """All images of the row, in the order of its turns."""
        return [part for message in self.messages for part in message.parts if isinstance(part, ImageRef)]
