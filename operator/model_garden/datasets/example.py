"""An Example: a row of any format after conversion, with all its roles, turns and images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from model_garden.datasets.origin import Origin

Role = Literal["system", "user", "assistant", "tool"]
Kind = Literal["chat", "completion", "text"]


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image before it is decoded: a path, or the encoded bytes of a data URI or a Parquet column.

    Or the address of one that is not fetched yet (``fetched_pictures``), which can be counted and not be opened.
    """

    source: Path | bytes | str

    @property
    def is_here(self) -> bool:
        """Whether it can be opened."""
        return not isinstance(self.source, str)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool in an answer: the tool's name, its arguments, and the id to which a result refers."""

    name: str
    arguments: dict[str, Any]
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Details:
    """What a turn has besides its content.

    Args:
        reasoning: the reasoning before an answer.
        tool_calls: the calls that an answer ends with.
        trained: whether an answer carries loss.
        name, call_id: of the result of a tool, the tool's name and the id of its call.
    """

    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    trained: bool = True
    name: str | None = None
    call_id: str | None = None


PLAIN = Details()


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: its role, its parts in order, each a text or an image, and its details."""

    role: Role
    parts: tuple[str | ImageRef, ...]
    details: Details = PLAIN

    @property
    def text(self) -> str:
        """The texts of its content, joined."""
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def answers(self) -> bool:
        """Whether it is an answer that carries loss."""
        return self.role == "assistant" and self.details.trained


@dataclass(frozen=True, slots=True)
class Example:
    """One row.

    ``chat``: the assistant turns are the answers. ``completion``: a prompt and its answer, joined without a chat
    template. ``text``: one message, trained on as a whole. ``tools`` are the definitions of tools in a chat, in
    OpenAI's form.

    A row of preferences has all turns with the chosen answer in ``messages`` and all turns with the rejected one in
    ``rejected``; they differ in the last. ``label`` says of a row for KTO whether its answer is wanted, and
    ``columns`` has what reward functions get of a row for GRPO. Of such rows the last answer alone carries loss.
    """

    kind: Kind
    messages: tuple[Message, ...]
    origin: Origin
    tools: tuple[dict[str, Any], ...] = ()
    rejected: tuple[Message, ...] = ()
    label: bool | None = None
    columns: Mapping[str, Any] | None = None

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
