"""The metric ``json_fields``: which fields of a JSON answer have the expected value.

A field is a path to a value that is no object and no list, such as ``total.amount``. All items of a list have the path
of the list, so that their order does not count. Fields are counted as in the evaluation of Donut (Kim et al., arXiv
2111.15664, ``JSONParseEvaluator.cal_f1``): over all rows, with m fields of answers that match an expected one, a fields
of answers and e expected fields, precision is m / a, recall m / e, and F1 2 m / (a + e).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from model_garden_trainer.evaluation.answered import Answered

Fields = Counter[tuple[str, object]]
"""How often each pair of a path and a value occurs."""

_FENCED = re.compile(r"\s*```\w*\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


def fields_of(text: str) -> Fields | None:
    """The fields of a JSON object or list, which may be in a Markdown code block; None for any other text.

    JSON that is nested deeper than Python can read (about 1000 levels) counts as other text.
    """
    fenced = _FENCED.fullmatch(text)
    try:
        value = json.loads(fenced.group(1) if fenced else text)
        return Counter(_flat(value, "")) if isinstance(value, (dict, list)) else None
    except (ValueError, RecursionError):
        return None


def f1(accepted: Sequence[str], answer: str) -> float:
    """F1 of the fields of one answer; 0 for one that is no JSON, and 1 where neither has fields."""
    return max(_f1(*_counts(expected, answer)) for expected in accepted)


def summary(rows: Sequence[Answered]) -> dict[str, float]:
    """F1, precision and recall over the fields of all answers, and the share of answers that are no JSON."""
    counts = [_counts(_closest(row), row.answer) for row in rows]
    matched, answered, expected = (sum(count[part] for count in counts) for part in range(3))
    return {
        "json_fields_f1": _f1(matched, answered, expected),
        "json_fields_precision": matched / answered if answered else 0.0,
        "json_fields_recall": matched / expected if expected else 0.0,
        "json_fields_invalid": sum(fields_of(row.answer) is None for row in rows) / len(rows),
    }


def by_field(rows: Sequence[Answered]) -> dict[str, float]:
    """The share of expected values of each field that the answers have; the most frequent fields come first."""
    expected: Counter[str] = Counter()
    matched: Counter[str] = Counter()
    for row in rows:
        wanted = fields_of(_closest(row)) or Counter()
        for (path, _), count in wanted.items():
            expected[path] += count
        for (path, _), count in (wanted & (fields_of(row.answer) or Counter())).items():
            matched[path] += count
    return {path: matched[path] / count for path, count in expected.most_common()}


def problem(accepted: Sequence[str]) -> str | None:
    """What is wrong with expected answers, one of which is no JSON object or list with fields."""
    wrong = next((text for text in accepted if not fields_of(text)), None)
    if wrong is None:
        return None
    return f"the expected answer {wrong[:80]!r} is no JSON object or list with values; correct it"


def _closest(row: Answered) -> str:
    return max(row.accepted, key=lambda expected: _f1(*_counts(expected, row.answer)))


def _counts(expected: str, answer: str) -> tuple[int, int, int]:
    """The numbers of fields that match, of the answer, and that are expected."""
    wanted, given = fields_of(expected) or Counter(), fields_of(answer) or Counter()
    return (wanted & given).total(), given.total(), wanted.total()


def _f1(matched: int, answered: int, expected: int) -> float:
    return 2 * matched / (answered + expected) if answered + expected else 1.0


def _flat(value: Any, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _flat(inner, path)
    else:
        yield path, _comparable(value)


def _comparable(value: Any) -> object:
    """A value as it is compared: 1 equals 1.0, ``true`` does not equal 1, and white space around a text is ignored."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) or value is None or isinstance(value, (dict, list)):
        return json.dumps(value), type(value).__name__
    return "number", value
