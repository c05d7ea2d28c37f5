"""Which characters of a rendered conversation are answers: found from the chat template itself, whatever it looks like.

No markers are guessed. Where the template says so with ``{% generation %}``, its word is taken. Else each assistant
turn is found by rendering: its start is where the conversation before it, with the generation prompt, ends; its end
is where the text stops to depend on its content, with the end-of-turn marker that the template puts after it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Span = tuple[int, int]
Chat = list[dict[str, Any]]
Render = Callable[..., str]
"""``render(chat, add_generation_prompt=False)``: the chat as text."""

_PIECE = re.compile(r"<[^<>]*>|[^<]+|<")
PROBE = "\ue000\ue001\ue000"
"""Stands in for an answer: private-use characters, which no template and hardly any answer begins or ends with."""


class UnsuitableTemplate(ValueError):
    """The template does not show where an answer stands."""


def answer_spans(render: Render, chat: Chat, text: str) -> list[Span]:
    """Start and end, in ``text``, of each assistant turn: all that the model has to write, its end marker included.

    Args:
        render: the chat template.
        chat: messages of role and content; content is a string or a list of parts.
        text: ``render(chat)``.

    Raises:
        UnsuitableTemplate: the text does not change where the content does.
    """
    return [_turn(render, chat, text, index) for index, message in enumerate(chat) if message["role"] == "assistant"]


def _turn(render: Render, chat: Chat, text: str, index: int) -> Span:
    probed = render([*chat[:index], _with_content(chat[index], PROBE), *chat[index + 1 :]])
    if PROBE not in probed or probed == text:
        raise UnsuitableTemplate(f"the chat template does not render message {index + 1} (assistant) as it stands")
    start = _common(text, probed)
    tail = _common(text[start:][::-1], probed[start:][::-1])
    end = len(text) - tail
    prompt = _prompt(render, chat[:index])
    if prompt is not None and text.startswith(prompt) and len(prompt) <= start:
        start = len(prompt)
    return start, end + len(_shared(_end_marker(render, chat[: index + 1]), text[end:]))


def _prompt(render: Render, before: Chat) -> str | None:
    """The text after which the model writes, None where the template refuses to render so little."""
    try:
        return render(before, add_generation_prompt=True)
    except Exception:  # a template raises what it likes (jinja2 errors, TypeError); the probe alone serves then
        return None


def _end_marker(render: Render, until: Chat) -> str:
    """What the template writes after the last message."""
    try:
        probed = render([*until[:-1], _with_content(until[-1], PROBE)])
    except Exception:  # as above
        return ""
    return probed.rpartition(PROBE)[2]


def _shared(marker: str, after: str) -> str:
    """The pieces that ``marker`` and ``after`` begin with alike, without white space at the end.

    A piece is a token in angle brackets or what stands between two: of ``<|end|>\\n<|endoftext|>``, which closes a
    conversation, and ``<|end|>\\n<|user|>``, with which it goes on, that is ``<|end|>``.
    """
    shared = ""
    for one, other in zip(_PIECE.findall(marker), _PIECE.findall(after), strict=False):
        if one != other:
            break
        shared += one
    return shared.rstrip()


def _common(one: str, other: str) -> int:
    """How many characters the two begin with alike."""
    shorter = min(len(one), len(other))
    return next((at for at in range(shorter) if one[at] != other[at]), shorter)


def _with_content(message: dict[str, Any], text: str) -> dict[str, Any]:
    content = message["content"]
    return message | {"content": text if isinstance(content, str) else [{"type": "text", "text": text}]}


def expanded_spans(spans: list[Span], text: str, expanded: str, placeholder: str) -> tuple[list[Span], list[Span]]:
    """``spans`` of ``text`` moved to ``expanded``, where every ``placeholder`` became a picture's run of tokens.

    Returns:
        The moved spans, and the spans of the pictures.

    Raises:
        UnsuitableTemplate: the text between two pictures is not found again, or a picture stands inside a span.
    """
    pieces = text.split(placeholder)
    if len(pieces) == 1:
        return spans, []
    shifts: list[tuple[int, int]] = []  # (where a piece starts in text, how far it moved)
    pictures: list[Span] = []
    here = there = 0
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        found = len(expanded) - len(piece) if last else expanded.find(piece, there)
        if found < there or (number == 0 and found != 0) or expanded[found : found + len(piece)] != piece:
            raise UnsuitableTemplate("the processor changed the text around a picture")
        if number:
            pictures.append((there, found))
        shifts.append((here, found - here))
        here += len(piece) + len(placeholder)
        there = found + len(piece)
    return [_moved(span, shifts) for span in spans], pictures


def _moved(span: Span, shifts: list[tuple[int, int]]) -> Span:
    start, end = span
    shift_of_start, shift_of_end = (
        max(entry for entry in shifts if entry[0] <= position)[1] for position in (start, max(start, end - 1))
    )
    if shift_of_start != shift_of_end:
        raise UnsuitableTemplate("an answer holds a picture, which no model can write")
    return start + shift_of_start, end + shift_of_end
