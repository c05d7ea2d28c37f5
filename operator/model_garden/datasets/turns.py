"""The turns of a row: joins a prompt and its answer, puts images in place of their marks, and checks the order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from model_garden.datasets.errors import RowError, shown
from model_garden.datasets.example import PLAIN, Details, ImageRef, Role

IMAGE_MARK = "<image>"
OTHER_MARKS = ("<video>", "<audio>")
"""Marks of content that cannot be trained on. ``keys`` refuses the columns that hold it."""


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of an image of the image column. Images are used in order.

    ``index`` is the position of the image in the column, if the row gives it.
    """

    index: int | None = None


Part = str | ImageRef | Slot


class Turn(NamedTuple):
    """One turn of a row while it is read."""

    role: Role
    parts: list[Part]
    details: Details = PLAIN

    @property
    def text(self) -> str:
        """Its texts, joined, without white space around them."""
        return "".join(part for part in self.parts if isinstance(part, str)).strip()

    def holding(self, parts: list[Part]) -> Turn:
        """The turn with other parts."""
        return self._replace(parts=parts)


def excluded(turn: Turn) -> Turn:
    """The turn without loss, if it is an answer."""
    return turn._replace(details=replace(turn.details, trained=False)) if turn.role == "assistant" else turn


def conversation(prompt: list[Turn], answer: list[Turn], name: str) -> list[Turn]:
    """The turns of a prompt and of its answer, each once.

    An answer that begins with a question is a conversation of its own. If it holds the prompt, it is the whole one, as
    in UltraFeedback; the turns of the prompt keep their details, such as that they carry no loss.

    Args:
        prompt: the turns of the prompt.
        answer: the turns that follow it, or all turns.
        name: the column of the answer.

    Raises:
        RowError: the answer begins with another question than the one that waits for an answer.
    """
    if answer[0].role not in ("system", "user"):
        return prompt + answer
    (system, asked), (other, said) = _without_system(prompt), _without_system(answer)
    places = range(len(said) - len(asked) + 1)
    at = next((at for at in places if all(map(_repeats, said[at:], asked))), None)
    if at is not None and (not system or not other or _repeats(other[0], system[0])):
        repeated = [turn._replace(details=first.details) for turn, first in zip(said[at:], asked, strict=False)]
        return [*(system or other), *said[:at], *repeated, *said[at + len(asked) :]]
    if prompt[-1].role in ("user", "tool"):
        raise RowError(
            f'"{name}" begins with the {answer[0].role} turn {shown(answer[0].text)}, and the prompt ends with the '
            f"{prompt[-1].role} turn {shown(prompt[-1].text)}, which waits for its answer",
            f'write in "{name}" only the turns after the prompt, or all turns, those of the prompt as they are there',
        )
    return prompt + answer


def _without_system(turns: list[Turn]) -> tuple[list[Turn], list[Turn]]:
    count = int(turns[0].role == "system")
    return turns[:count], turns[count:]


def _repeats(turn: Turn, first: Turn) -> bool:
    """Whether a turn says what another one did. It may have images that the other lacks, and carry another loss."""
    images = [part for part in first.parts if not isinstance(part, str)]
    return (
        (turn.role, turn.text) == (first.role, first.text)
        and replace(turn.details, trained=True) == replace(first.details, trained=True)
        and (not images or images == [part for part in turn.parts if not isinstance(part, str)])
    )


def place_pictures(turns: list[Turn], pictures: list[ImageRef], *, in_front: bool) -> list[Turn]:
    """The turns of a row for a vision model, with the images of the image column in place of their marks.

    Args:
        turns: the turns, whose texts may contain marks.
        pictures: the image column.
        in_front: put the images of a row without marks at the start of its first user turn.

    Raises:
        RowError: there are more or fewer marks than images, or a mark for video or audio.
    """
    _refuse_other_marks(turns)
    slots = _slots(turns)
    if not slots and not any(isinstance(part, ImageRef) for turn in turns for part in turn.parts):
        turns = [turn.holding(_split(turn.parts)) if turn.role in ("user", "tool") else turn for turn in turns]
        slots = _slots(turns)
    if pictures and not slots and in_front:
        first = next(index for index, turn in enumerate(turns) if turn.role == "user")
        asked = turns[first].holding([*pictures, *turns[first].parts])
        return [*turns[:first], asked, *turns[first + 1 :]]
    if len(slots) != len(pictures):
        raise RowError(
            f'the row has {len(slots)} image marks, but its "image" or "images" column has {len(pictures)} images',
            f'write {IMAGE_MARK} or {{"type": "image"}} once for each image, and list as many images in "images"',
        )
    for position, slot in enumerate(slots):
        if slot.index not in (None, position):
            raise RowError(
                f"image part {position + 1} of the row has the index {slot.index}, and images are used in order",
                'put "images" in the order of the turns, and count "index" from 0 or remove it',
            )
    queue = iter(pictures)
    return [turn.holding([next(queue) if isinstance(part, Slot) else part for part in turn.parts]) for turn in turns]


def _slots(turns: Sequence[Turn]) -> list[Slot]:
    return [part for turn in turns for part in turn.parts if isinstance(part, Slot)]


def _refuse_other_marks(turns: Sequence[Turn]) -> None:
    for number, (role, parts, _) in enumerate(turns, 1):
        for mark in OTHER_MARKS if role in ("user", "tool") else ():
            if any(isinstance(part, str) and mark in part for part in parts):
                raise RowError(
                    f"turn {number}, the {role}'s, holds {mark}, and video and audio are not trained on",
                    "remove the mark or the row",
                )


def _split(parts: list[Part]) -> list[Part]:
    """``parts`` with each text split at ``<image>``. A line break after a mark, as in LLaVA's data, is kept."""
    result: list[Part] = []
    for part in parts:
        if not isinstance(part, str):
            result.append(part)
            continue
        for index, text in enumerate(part.split(IMAGE_MARK)):
            result += ([Slot()] if index else []) + ([text] if text else [])
    return result


def check_turns(turns: Sequence[Turn]) -> None:
    """Refuse turns that cannot be trained on.

    Raises:
        RowError: a turn is empty, a system or assistant turn has an image, or the roles have a wrong order.
    """
    _check_roles([turn.role for turn in turns])
    for number, (role, parts, details) in enumerate(turns, 1):
        pictured = any(isinstance(part, ImageRef) for part in parts)
        if pictured and role in ("system", "assistant"):
            raise RowError(f"turn {number}, the {role}'s, holds an image", "move it to a user turn")
        filled = pictured or details.tool_calls or any(isinstance(part, str) and part.strip() for part in parts)
        if role != "system" and not filled:
            raise RowError(f"turn {number}, the {role}'s, is empty", "fill it in or remove the row")
    if not any(turn.role == "assistant" and turn.details.trained for turn in turns):
        raise RowError("every answer of the row is marked as not trained", "remove the row, or the mark of an answer")


def _check_roles(roles: Sequence[Role]) -> None:
    if "assistant" not in roles:
        raise RowError("no assistant turn: there is no answer to learn", "add the answer or remove the row")
    if "system" in roles[1:]:
        raise RowError(
            f"turn {roles.index('system', 1) + 1} is a system turn",
            "a row may have one system turn, and it must be the first",
        )
    spoken = roles[1:] if roles[0] == "system" else roles
    if len(roles) > 1 and spoken[0] != "user":
        raise RowError(f"the first turn after the system's is the {spoken[0]}'s", "begin with a user turn")
    if roles[-1] != "assistant":
        raise RowError(f"the last turn is the {roles[-1]}'s and has no answer", "add the answer or remove the turn")
    for before, role in pairwise(roles):
        if role == "tool" and before not in ("assistant", "tool"):
            raise RowError(
                f"a tool turn follows the {before}'s", "put it after the assistant turn that called the tool"
            )
