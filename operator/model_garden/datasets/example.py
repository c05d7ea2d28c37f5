"""What every row becomes, whatever its format: an Example that keeps all roles, turns and images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from model_garden.datasets.pictures import decode

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row stands: its file and its number, from 1, as an editor counts lines of a JSONL file."""

    file: str
    row: int

    def __str__(self) -> str:
        """As messages name it: ``FILE row N``."""
        return f"{self.file} row {self.row}"


@dataclass(frozen=True, slots=True)
class ImageRef:
    """A picture that is not decoded yet: a path, or the encoded bytes of a data URI or a Parquet column."""

    source: Path | bytes

    def open(self, min_pixels: int | None = None, max_pixels: int | None = None) -> Image.Image:
        """Decode the picture as RGB, upright, on white where it is transparent, its area brought between the bounds.

        The caller drops it after use, so that memory does not grow with the data. Within bounds its size is that of
        ``pictures.bounded``, by which tokens are counted.
        """
        return decode(self.source, min_pixels, max_pixels)


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

    kind: Literal["chat", "completion", "text"]
    messages: tuple[Message, ...]
    origin: Origin

    @property
    def images(self) -> list[ImageRef]:
        """All pictures of the row, in the order in which its text meets them."""
        return [part for message in self.messages for part in message.parts if isinstance(part, ImageRef)]
