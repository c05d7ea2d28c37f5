"""Checks that the text of a row has each turn as the row has it, the answers where they carry loss.

White space and the Unicode form, which templates change, do not count.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from model_garden.datasets.errors import RowError, shown
from model_garden.datasets.example import Example, Message, ToolCall

_SHOWN = 120


def bare(text: str) -> str:
    """``text`` in Unicode form NFC without white space, which templates and tokenizers change."""
    return "".join(unicodedata.normalize("NFC", text).split())


def check_kept(example: Example, text: str, answers: Sequence[str]) -> None:
    """Check that nothing of a row is left out.

    Args:
        example: the row.
        text: what the template renders.
        answers: the parts of ``text`` that carry loss.

    Raises:
        RowError: a part of an answer carries no loss, or a part of another turn or a tool is not in the text.
    """
    trained = [(number, message) for number, message in enumerate(example.messages, 1) if message.answers]
    found = list(answers)
    if len(found) != len(trained):  # a template may mark an answer in several pieces
        found = ["".join(found)] * len(trained)
    for (number, message), rendered in zip(trained, found, strict=True):
        _check_answer(message, number, bare(rendered), rendered)
    whole = bare(text)
    for number, message in enumerate(example.messages, 1):
        if message.role != "assistant":
            _check_turn(message, number, whole)
    for tool in example.tools:
        name = tool["function"]["name"]
        if bare(name) not in whole:
            raise RowError(
                f"the model's chat template does not render the tool {shown(name)} of the row",
                "use a model or chatTemplate with tools, or remove them",
            )


def _check_answer(message: Message, number: int, rendered: str, shown_as: str) -> None:
    turn = f"turn {number} (assistant) would not be trained as written: the model's chat template"
    if bare(message.text) not in rendered:
        raise RowError(
            f"{turn} removes or changes a part of {shown(message.text, _SHOWN)} and renders {shown(shown_as, _SHOWN)}",
            "remove that part from the row, or use a model or chatTemplate that keeps it",
        )
    if bare(message.details.reasoning) not in rendered:
        raise RowError(
            f"{turn} leaves out its reasoning {shown(message.details.reasoning, _SHOWN)} and renders "
            f"{shown(shown_as, _SHOWN)}",
            "use a model or chatTemplate that keeps the reasoning of this turn; or write it into the content, or "
            'remove it; or, in an earlier turn, write "weight": 0, or split the row after that answer',
        )
    for call in message.details.tool_calls:
        lost = next((part for part in _parts(call) if not any(bare(form) in rendered for form in part)), None)
        if lost:
            raise RowError(
                f"{turn} does not write {shown(lost[0])} of the tool call {shown(call.name)} and renders "
                f"{shown(shown_as, _SHOWN)}",
                "use a model or chatTemplate with tool calls, or remove the call",
            )


def _check_turn(message: Message, number: int, whole: str) -> None:
    for part in message.parts:
        if isinstance(part, str) and bare(part) not in whole and not any(bare(form) in whole for form in _forms(part)):
            raise RowError(
                f"the model's chat template leaves out or changes turn {number} ({message.role}): "
                f"{shown(part, _SHOWN)}",
                "use a model or chatTemplate that keeps it, or remove the turn",
            )


def _parts(call: ToolCall) -> Iterator[tuple[str, ...]]:
    """The name, the keys and the values of a call, each in all forms in which templates write it."""
    yield (call.name,)
    yield from map(_forms, _leaves(call.arguments))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, entry in value.items():
            yield str(key)
            yield from _leaves(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _leaves(entry)
    else:
        yield value


def _forms(value: Any) -> tuple[str, ...]:
    """A value as text: as it is, as JSON with and without escapes, and as Python writes it."""
    if isinstance(value, str) and value.isalnum():
        return (value,)
    written = (json.dumps(value, ensure_ascii=False), json.dumps(value))
    plain = tuple(form[1:-1] for form in written) if isinstance(value, str) else written
    return (str(value), *plain, repr(value))
