"""An Example: what a row of any format is converted to, with all its roles, turns and images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model_garden.datasets.origin import Origin

Role = Literal["system", "user", "assistant", "tool"]
Kind = Literal["chat", "completion", "text"]


@dataclass(frozen=True, slots=True)
class ImageRef:
    """A picture that is not decoded: a path, or the encoded bytes of a data URI or a Parquet column."""

    source: Path | bytes


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: its role and its parts in order, each a text or a picture."""

    role: Role
    parts: tuple[str | ImageRef, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One row.

    ``chat``: messages, the assistant's turns are the answers. ``completion``: two messages whose texts are laid end to
    end without a chat template; the second is the answer. ``text``: one message whose text is trained on as a whole.
    """

    kind: Kind
    messages: tuple[Message, ...]
    origin: Origin

    @property
    def images(self) -> list[ImageRef]:
        """All pictures of the row, in the order of its turns."""
        return [part for message in self.messages for part in message.parts if isinstance(part, ImageRef)]
