"""``spec.selectiveLoss``: which tokens of a JSON answer are structure, so that the gradient goes to the values.

The encoder asks here after it found the answers of a row; the named tokens then lose their label. A document is parsed
once, its structure becomes character spans, and a token is taken out only if all of its characters are structure. So a
word such as ``type`` or ``null`` inside a value can never be taken for a key or a null.

Evaluation always runs with ``EVALUATION_LEVEL``: its mask is fixed, whatever the training leaves out, so that the
evaluation losses of two runs, and of two levels, can be compared.

Pure functions of text and offsets; neither torch nor a tokenizer is needed.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from model_garden.contract.spec import SelectiveLoss

Span = tuple[int, int]
"""First character and the one past the last."""

EVALUATION_LEVEL: SelectiveLoss = "none"
"""Evaluation counts every token of every answer."""

_BEGINS_A_DOCUMENT = re.compile(r"^[ \t]*([{\[])", re.MULTILINE)
_LEXEME = re.compile(
    r"""(?P<string>"[^"\\]*(?:\\.[^"\\]*)*")
      | (?P<null>null)
      | (?P<scalar>true|false|-?\d[\d.eE+-]*)
      | (?P<punctuation>[{}\[\],:]|[ \t\r\n]+)""",
    re.VERBOSE,
)
_COLON_FOLLOWS = re.compile(r"[ \t\r\n]*:")


@dataclass(frozen=True)
class AnswerCounts:
    """How many answers are JSON documents, and how many are not and are trained whole."""

    json: int
    other: int


def structure_tokens(offsets: Sequence[Span], text: str, answers: Sequence[Span], level: SelectiveLoss) -> list[int]:
    """The indices of tokens that lose their label, in order.

    Args:
        offsets: each token's span in ``text``; an empty span (a special token without text) is never named.
        text: the row as it was tokenized.
        answers: the span of each answer in ``text``; an end-of-turn marker may follow the answer inside it.
        level: ``none``. ``conservative``: punctuation, white space and the quotes of keys. ``moderate``: ``null``
            too. ``aggressive``: keys too.

    A value is a string with both its quotes (the first is where the model decides between a string, a number and null,
    the last is where it decides that the value ends), a number, ``true`` or ``false``: a token that shares a character
    with one is never named, nor is one that reaches outside the document. An answer that is not one JSON document
    (``find_document``) keeps all its tokens, and so does a document of which nothing would be left, such as ``{}``.
    """
    return [token for start, end in answers for token in _structure_of_answer(offsets, start, text[start:end], level)]


def _structure_of_answer(offsets: Sequence[Span], start: int, answer: str, level: SelectiveLoss) -> list[int]:
    document = find_document(answer) if level != "none" else None
    if document is None:
        return []
    spans = [(start + a, start + b) for a, b in structure_spans(answer, document, level)]
    first, last = start + document[0], start + document[1]
    touching = [i for i, (a, b) in enumerate(offsets) if a < b and a < last and b > first]
    structure = [i for i in touching if _within(offsets[i], spans)]
    return structure if len(structure) < len(touching) else []


def find_document(answer: str) -> Span | None:
    """Where the one JSON document of ``answer`` stands: the object or array that begins its first line starting with
    a brace or bracket, alone or in a fence or below some words.

    None where there is none, where it does not parse as RFC 8259 has it (``NaN`` and control characters in strings are
    refused), or where a later line begins another.
    """
    begins = _BEGINS_A_DOCUMENT.search(answer)
    if begins is None:
        return None
    try:
        _, end = _DECODER.raw_decode(answer, begins.start(1))
    except (ValueError, RecursionError):
        return None
    return None if _BEGINS_A_DOCUMENT.search(answer, end) else (begins.start(1), end)


def structure_spans(answer: str, document: Span, level: SelectiveLoss) -> list[Span]:
    """The spans of ``answer`` that ``level`` counts as structure of the valid JSON ``document``, in order, neighbours
    joined, so that a token such as ``": {`` lies within one."""
    joined: list[Span] = []
    for start, end in _structure(answer, document, level):
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _structure(answer: str, document: Span, level: SelectiveLoss) -> Iterator[Span]:
    for lexeme in _LEXEME.finditer(answer, *document):
        start, end = lexeme.span()
        match lexeme.lastgroup:
            case "punctuation":
                yield start, end
            case "null" if level in ("moderate", "aggressive"):
                yield start, end
            case "string" if _COLON_FOLLOWS.match(answer, end):  # only a key is followed by one
                if level == "aggressive":
                    yield start, end
                else:
                    yield start, start + 1
                    yield end - 1, end


def _within(token: Span, spans: Sequence[Span]) -> bool:
    """Whether one of the ordered ``spans`` covers all of ``token``."""
    index = bisect_right(spans, token[0], key=lambda span: span[0]) - 1
    return index >= 0 and token[1] <= spans[index][1]


def count_answers(answers: Iterable[str]) -> AnswerCounts:
    """Count the answers that selective loss works on, and those that it leaves whole."""
    found = [find_document(answer) is not None for answer in answers]
    return AnswerCounts(json=sum(found), other=len(found) - sum(found))


def warning(counts: AnswerCounts, level: SelectiveLoss) -> str | None:
    """What a person should know before training with ``level``: None where every answer is JSON."""
    if level == "none" or not counts.other:
        return None
    return (
        f"spec.selectiveLoss: {level} leaves {counts.other} of {counts.json + counts.other} answers whole: none or "
        "more than one JSON document begins a line of them; every token of these answers is trained on"
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Numbers stay text: nothing is computed from them, and a number of any length is JSON.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse_constant)
