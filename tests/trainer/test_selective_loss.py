"""Selective loss: the structure of JSON answers goes, values never do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_garden.contract.spec import SelectiveLoss
from model_garden_trainer.batches.selective_loss import (
    AnswerCounts,
    count_answers,
    find_document,
    structure_tokens,
    warning,
)

Span = tuple[int, int]
LEVELS: tuple[SelectiveLoss, ...] = ("conservative", "moderate", "aggressive")


def left(answer: str, level: SelectiveLoss) -> str:
    """What of ``answer`` keeps its loss, where every word and every other character is a token."""
    offsets = [match.span() for match in re.finditer(r"\w+|\s+|.", answer)]
    structure = structure_tokens(offsets, answer, [(0, len(answer))], level)
    return "".join(answer[a:b] for index, (a, b) in enumerate(offsets) if index not in structure)


CASES: list[tuple[str, str, tuple[str, str, str]]] = [
    ("an object", '{"name": "Ada", "age": 36}', ('name"Ada"age36', 'name"Ada"age36', '"Ada"36')),
    ("a null", '{"a": null, "b": true}', ("anullbtrue", "abtrue", "true")),
    ("a null in a list", '{"a": [null, 1.5e3]}', ("anull1.5e3", "a1.5e3", "1.5e3")),
    ("structure in a value", '{"a": "{x: null}"}', ('a"{x: null}"', 'a"{x: null}"', '"{x: null}"')),
    ("a key's name in a value", '{"type": "type"}', ('type"type"', 'type"type"', '"type"')),
    ("a colon after a value's quote", '["a", "b:c"]', ('"a""b:c"',) * 3),
    (
        "an escaped quote",
        r'{"a": "say \"null\": x"}',
        (r'a"say \"null\": x"', r'a"say \"null\": x"', r'"say \"null\": x"'),
    ),
    ("a value that ends in a backslash", r'{"a": "\\", "b": ""}', (r'a"\\"b""', r'a"\\"b""', r'"\\"""')),
    ("indented", '{\n  "a": {\n    "b": "c"\n  }\n}\n', ('ab"c"\n', 'ab"c"\n', '"c"\n')),
    ("unicode", '{"ключ": "зна чение 🙂"}', ('ключ"зна чение 🙂"', 'ключ"зна чение 🙂"', '"зна чение 🙂"')),
    ("in a fence", '```json\n{"a": "b"}\n```', ('```json\na"b"\n```', '```json\na"b"\n```', '```json\n"b"\n```')),
    ("below some words", 'Here it is:\n{"a": 1}', ("Here it is:\na1", "Here it is:\na1", "Here it is:\n1")),
    ("before a marker", '{"a": 1}<|im_end|>', ("a1<|im_end|>", "a1<|im_end|>", "1<|im_end|>")),
    ("twice the same key", '{"a": 1, "a": 2}', ("a1a2", "a1a2", "12")),
    ("a very long number", '{"a": ' + "9" * 5000 + "}", ("a" + "9" * 5000, "a" + "9" * 5000, "9" * 5000)),
    ("nothing but structure", '{"a": null}', ("anull", "a", '{"a": null}')),
    ("empty", "{}", ("{}",) * 3),
]

NOT_ONE_DOCUMENT = [
    "",
    "a plain answer",
    '"a string alone"',
    "null",
    "36",
    "As [1] says, {x} is null.",
    '{"a": 1',
    "{'a': 1}",
    '{"a": NaN}',
    '{"a": "line\nbreak"}',
    '{"a": 1}\n{"a": 2}',
    "[" * 100_000,
]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("answer", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_keeps_its_loss(answer: str, expected: tuple[str, str, str], level: SelectiveLoss) -> None:
    assert left(answer, level) == expected[LEVELS.index(level)]


@pytest.mark.parametrize("answer", NOT_ONE_DOCUMENT, ids=range(len(NOT_ONE_DOCUMENT)))
def test_what_is_not_one_json_document_keeps_all_its_tokens(answer: str) -> None:
    assert left(answer, "aggressive") == answer
    assert count_answers([answer]) == AnswerCounts(json=0, other=1)


def test_off_takes_nothing_out() -> None:
    assert left('{"a": null}', "none") == '{"a": null}'


def test_a_token_that_touches_a_value_or_leaves_the_document_keeps_its_loss() -> None:
    answer = 'So:\n{"a": 12}.'
    tokens = [(0, 5), (5, 6), (6, 8), (8, 11), (11, 12), (12, 14), (13, 14)]  # 'So:\n{' '"' 'a"' ': 1' '2' '}.' '.'
    assert structure_tokens(tokens, answer, [(0, len(answer))], "aggressive") == [1, 2]


def test_only_the_answers_of_a_row_are_looked_at() -> None:
    row = '{"question": null}\n{"a": 1}\n{"b": 2}'
    first, second = row.index('{"a"'), row.index('{"b"')
    characters = [(i, i + 1) for i in range(len(row))]
    structure = structure_tokens(characters, row, [(first, second - 1), (second, len(row))], "aggressive")
    assert "".join(char for index, char in enumerate(row) if index not in structure) == '{"question": null}\n1\n2'


def test_answers_that_are_left_whole_are_counted_and_told() -> None:
    counts = count_answers(['{"a": 1}', "yes", "[1, 2]"])
    assert counts == AnswerCounts(json=2, other=1)
    assert "1 of 3 answers" in (warning(counts, "moderate") or "")
    assert warning(counts, "none") is None
    assert warning(AnswerCounts(json=3, other=0), "moderate") is None


def test_with_a_real_tokenizer_the_trained_tokens_hold_every_value(tiny_model: Callable[[str], Path]) -> None:
    from transformers import AutoTokenizer

    answer = json.dumps({"type": "not a type: null", "größe": "12 €", "ok": True, "none": None}, ensure_ascii=False)
    for kind in ("qwen2", "llama"):
        tokenizer = AutoTokenizer.from_pretrained(tiny_model(kind))
        encoded = tokenizer(answer, return_offsets_mapping=True, add_special_tokens=False)
        structure = structure_tokens(encoded["offset_mapping"], answer, [(0, len(answer))], "aggressive")
        kept = [token for index, token in enumerate(encoded["input_ids"]) if index not in structure]
        text = tokenizer.decode(kept)
        assert structure
        assert all(value in text for value in ("not a type: null", "12 €", "true"))
        assert "type" not in text.replace("not a type", "")
        assert "größe" not in text


# A document written piece by piece, with what each character is: the oracle shares no code with what it judges.

VALUE, KEY, QUOTE, NULL, PUNCTUATION = "value", "key", "quote", "null", "punctuation"
STRUCTURE = {
    "conservative": {QUOTE, PUNCTUATION},
    "moderate": {QUOTE, PUNCTUATION, NULL},
    "aggressive": {QUOTE, PUNCTUATION, NULL, KEY},
}
Pieces = list[tuple[str, str]]

texts = st.text(max_size=8) | st.sampled_from(['"', "\\", '": null, "', "null", "{}", "type", "\u2028", "🙂é", "\x00"])
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
).filter(lambda value: isinstance(value, dict | list))


def written(value: Any, space: Callable[[], str], ascii_only: bool) -> Pieces:
    """``value`` as JSON, in pieces of (text, what it is)."""
    if value is None:
        return [("null", NULL)]
    if not isinstance(value, dict | list):
        return [(json.dumps(value, ensure_ascii=ascii_only), VALUE)]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    pieces: Pieces = [(opening + space(), PUNCTUATION)]
    for number, item in enumerate(value):
        if number:
            pieces.append(("," + space(), PUNCTUATION))
        if isinstance(value, dict):
            key = json.dumps(item, ensure_ascii=ascii_only)
            pieces += [('"', QUOTE), (key[1:-1], KEY), ('"', QUOTE), (space() + ":" + space(), PUNCTUATION)]
        pieces += [
            *written(value[item] if isinstance(value, dict) else item, space, ascii_only),
            (space(), PUNCTUATION),
        ]
    return [*pieces, (closing, PUNCTUATION)]


@st.composite
def rows(draw: st.DrawFn) -> tuple[str, list[str | None], list[Span]]:
    """An answer, what each of its characters is (None outside the document), and tokens that overlap or are empty."""
    white = st.sampled_from(["", " ", "\n", "  \t", "\r\n"])
    pieces = written(draw(documents), lambda: draw(white), draw(st.booleans()))
    before, after = draw(st.sampled_from([("", ""), ("```json\n", "\n```"), ("It is: \n ", " <|im_end|>")]))
    document = "".join(text for text, _ in pieces)
    kinds = [kind for text, kind in pieces for _ in text]
    answer = before + document + after
    cuts = sorted(draw(st.sets(st.integers(1, len(answer) - 1), max_size=60))) if len(answer) > 1 else []
    tokens = list(zip([0, *cuts], [*cuts, len(answer)], strict=True))
    starts = draw(st.lists(st.integers(0, len(answer)), max_size=10))
    tokens += [(start, min(len(answer), start + length)) for start, length in zip(starts, range(10), strict=False)]
    return answer, [*[None] * len(before), *kinds, *[None] * len(after)], tokens


@given(rows(), st.sampled_from(LEVELS))
def test_no_token_inside_a_value_is_taken_out_and_all_of_the_structure_is(
    row: tuple[str, list[str | None], list[Span]], level: SelectiveLoss
) -> None:
    answer, kinds, tokens = row
    structure = set(structure_tokens(tokens, answer, [(0, len(answer))], level))
    inside = [index for index, (a, b) in enumerate(tokens) if a < b and any(kinds[a:b])]
    expected = {index for index in inside if set(kinds[slice(*tokens[index])]) <= STRUCTURE[level]}
    assert not {index for index in structure if VALUE in kinds[slice(*tokens[index])]}
    assert structure == (expected if len(expected) < len(inside) else set())


@given(st.text(max_size=40))
def test_any_text_is_taken(text: str) -> None:
    document = find_document(text)
    assert document is None or isinstance(json.loads(text[slice(*document)]), dict | list)
