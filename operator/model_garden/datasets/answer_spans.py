"""Finds the answers in a rendered conversation, for any chat template, without knowing its markers.

If the template marks them with ``{% generation %}``, ``rendering`` uses those marks. Otherwise each assistant turn is
found by rendering the conversation again. The turn starts where the earlier conversation, with the generation prompt,
ends. It ends where the text no longer depends on its content, plus the end-of-turn marker that the template adds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

Span = tuple[int, int]
Chat = list[dict[str, Any]]
Render = Callable[..., str]
"""``render(chat, add_generation_prompt=False)``: the chat as text."""
PromptOf = Callable[[int], str | None]
"""``prompt_before`` for the turn of an index: it is needed more than once, and rendering takes time."""

_MARKER = re.compile(r"<[^<>\s]*>")
_PIECE = re.compile(r"<[^<>]*>|[^<]+|<")
PROBE = "\ue000\ue001\ue000"
"""Replaces an answer. These private-use characters begin or end no template text and almost no answer."""


class UnsuitableTemplate(ValueError):
    """The position of an answer cannot be found in what the template renders."""


def answer_spans(render: Render, chat: Chat, text: str, answers: Sequence[int], prompt_of: PromptOf) -> list[Span]:
    """Start and end, in ``text``, of some assistant turns, with their end markers: all that the model must generate.

    Args:
        render: the chat template.
        chat: messages of role and content; content is a string or a list of parts.
        text: ``render(chat)``.
        answers: indices of assistant turns.
        prompt_of: the prompt of each of them.

    Raises:
        UnsuitableTemplate: the text does not change where the content does.
    """
    return [_turn(render, chat, text, index, prompt_of(index)) for index in answers]


def _turn(render: Render, chat: Chat, text: str, index: int, prompt: str | None) -> Span:
    try:
        return _changed(render, chat, text, index, prompt)
    except UnsuitableTemplate:
        raise
    except Exception:  # a template may refuse the result of a tool after a turn without a call
        if not chat[index].get("tool_calls"):
            raise
    until = chat[: index + 1]
    alone = render(until)
    start, end = _changed(render, until, alone, index, prompt)
    if text[:end] != alone[:end]:
        raise UnsuitableTemplate(f"the chat template renders message {index + 1} (assistant) as later turns need it")
    return start, end


def _changed(render: Render, chat: Chat, text: str, index: int, prompt: str | None) -> Span:
    """The part of ``text`` that depends on a turn, from the end of the prompt before it to its end marker.

    The turn is replaced by one whose content is ``PROBE``, without reasoning and tool calls.
    """
    probed = render([*chat[:index], _with_content(chat[index], PROBE), *chat[index + 1 :]])
    if PROBE not in probed or probed == text:
        raise UnsuitableTemplate(f"the chat template does not render message {index + 1} (assistant) as written")
    start = common_start(text, probed)
    tail = common_start(text[start:][::-1], probed[start:][::-1])
    end = len(text) - tail
    if len(chat[index]) > len(("role", "content")):
        start, end = _whole_pieces(text, start, end)
    if prompt is not None and text.startswith(prompt) and len(prompt) <= start:
        start = len(prompt)
    return start, end + len(_shared(_end_marker(render, chat[: index + 1]), text[end:]))


def _whole_pieces(text: str, start: int, end: int) -> Span:
    """The span, widened to whole tokens in angle brackets: ``<|call|>`` and ``<|end|>`` have characters in common."""
    for piece in _MARKER.finditer(text):
        if piece.start() < start < piece.end():
            start = piece.start()
        if piece.start() < end < piece.end():
            end = piece.end()
    return start, end


def prompt_before(render: Render, chat: Chat, index: int) -> str | None:
    """The text after which the model generates a turn of ``chat``; None if the template cannot render it."""
    try:
        return render(chat[:index], add_generation_prompt=True)
    except Exception:  # a template can raise any exception; the text before the turn is used then
        return None


def _end_marker(render: Render, until: Chat) -> str:
    """The text that the template adds after the last message."""
    try:
        probed = render([*until[:-1], _with_content(until[-1], PROBE)])
    except Exception:  # as above
        return ""
    return probed.rpartition(PROBE)[2]


def _shared(marker: str, after: str) -> str:
    """The pieces that are equal at the start of ``marker`` and of ``after``, without white space at the end.

    A piece is a token in angle brackets, or the text between two such tokens. Of ``<|end|>\\n<|endoftext|>``, the end
    of a conversation, and ``<|end|>\\n<|user|>``, the end of a turn within one, the equal piece is ``<|end|>``.
    """
    shared = ""
    for one, other in zip(_PIECE.findall(marker), _PIECE.findall(after), strict=False):
        if one != other:
            break
        shared += one
    return shared.rstrip()


def common_start(one: str, other: str) -> int:
    """The number of equal characters at the start of both."""
    shorter = min(len(one), len(other))
    return next((at for at in range(shorter) if one[at] != other[at]), shorter)


def _with_content(message: dict[str, Any], text: str) -> dict[str, Any]:
    content = text if isinstance(message["content"], str) else [{"type": "text", "text": text}]
    return {"role": message["role"], "content": content}


def expanded_spans(spans: list[Span], text: str, expanded: str, placeholder: str) -> tuple[list[Span], list[Span]]:
    """``spans`` of ``text``, moved to ``expanded``, where the tokens of an image replace every ``placeholder``.

    Returns:
        The moved spans, and the spans of the images.

    Raises:
        UnsuitableTemplate: the text between two images changed, or an image is inside a span.
    """
    pieces = text.split(placeholder)
    if len(pieces) == 1:
        return spans, []
    shifts: list[tuple[int, int]] = []  # (start of a piece in text, distance that it moved)
    pictures: list[Span] = []
    here = there = 0
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        found = len(expanded) - len(piece) if last else expanded.find(piece, there)
        if found < there or (number == 0 and found != 0) or expanded[found : found + len(piece)] != piece:
            raise UnsuitableTemplate("the processor changed the text around an image")
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
        raise UnsuitableTemplate("an answer holds an image, which no model can write")
    return start + shift_of_start, end + shift_of_end
