"""The metrics of an evaluation, with values computed by hand or given by the papers."""

from __future__ import annotations

import json

import pytest

from model_garden_trainer.evaluation import boxes, json_fields
from model_garden_trainer.evaluation.answered import Answered
from model_garden_trainer.evaluation.metrics import METRICS, anls, exact_match, similarity


def test_exact_match_ignores_the_white_space_around_an_answer_and_nothing_else() -> None:
    assert exact_match("Paris", " Paris\n") == 1
    assert exact_match("Paris", "paris") == exact_match("Paris", "Paris.") == 0


def test_similarity_is_the_share_of_characters_in_the_same_order() -> None:
    assert similarity("abcd", "abxd") == 0.75  # M = 3 of T = 8: 2 x 3 / 8
    assert (similarity("abcd", "abcd"), similarity("abcd", "")) == (1, 0)
    assert similarity("ab " * 20_000, "abc " * 20_000) == pytest.approx(6 / 7, abs=1e-4)  # and at once


@pytest.mark.parametrize(
    ("expected", "answer", "score"),
    [
        ("$4,500.00", "$4,500.00", 1.0),
        ("Nestle", "nestle", 1.0),  # case does not count
        ("united  states", "united states", 1.0),  # nor white space
        ("kitten", "sitting", 1 - 3 / 7),  # distance 3, longer length 7
        ("abcd", "abxy", 0.0),  # distance 2 of 4 is not below 0.5
        ("abcde", "abcxy", 1 - 2 / 5),
        ("abc", "", 0.0),
    ],
)
def test_anls_is_normalized_levenshtein_similarity_above_one_half(expected: str, answer: str, score: float) -> None:
    assert anls(expected, answer) == pytest.approx(score)


def test_the_best_of_several_accepted_answers_counts() -> None:
    rows = [Answered(("Coca Cola", "coca-cola"), "coca-cola"), Answered(("1",), "2")]
    for name in ("anls", "exact_match"):
        values = [METRICS[name].score(row.accepted, row.answer) for row in rows]
        assert values == [1, 0] and METRICS[name].summary(rows, values) == {name: 0.5}
    assert METRICS["json_fields"].score(('{"a": 1}', '{"a": 2}'), '{"a": 2}') == 1
    assert METRICS["iou"].score(("[0, 0, 1, 1]", "[5, 5, 6, 6]"), "[5, 5, 6, 6]") == 1


MENU = {"total": {"price": 12.5, "tax": None}, "menu": [{"name": "Tea", "count": 2}, {"name": "Pie", "count": 1}]}


def test_fields_of_json_are_paths_to_values() -> None:
    found = json_fields.fields_of(json.dumps(MENU)) or {}
    assert sorted(path for path, _ in found) == [
        "menu.count", "menu.count", "menu.name", "menu.name", "total.price", "total.tax",
    ]  # fmt: skip
    assert json_fields.fields_of('```json\n{"a": 1}\n```') == json_fields.fields_of('{"a": 1.0}')
    assert json_fields.fields_of('{"a": true}') != json_fields.fields_of('{"a": 1}')
    assert json_fields.fields_of('{"a": " x "}') == json_fields.fields_of('{"a": "x"}')
    assert json_fields.fields_of("The total is 3.") is None and json_fields.fields_of("12") is None


def test_json_that_is_nested_too_deeply_is_no_json() -> None:
    assert json_fields.fields_of("[" * 100_000) is None
    assert json_fields.f1(['{"a": 1}'], '{"a":' * 100_000) == 0
    for depth in range(900, 1000):  # at some of these depths, Python reads the JSON and cannot walk through it
        json_fields.fields_of("[" * depth + "]" * depth)


def test_fields_are_scored_by_precision_recall_and_f1_over_all_rows() -> None:
    """Row 1: 2 of 3 given match 4 expected. Row 2 is no JSON: 0 given, 2 expected. m = 2, a = 3, e = 6."""
    rows = [
        Answered(('{"a": 1, "b": {"c": "x"}, "d": [1, 2]}',), '{"a": 1, "b": {"c": "y"}, "d": [2]}'),
        Answered(('{"a": 1, "b": {"c": "x"}}',), "a is 1"),
    ]
    assert json_fields.summary(rows) == {
        "json_fields_f1": pytest.approx(4 / 9),
        "json_fields_precision": pytest.approx(2 / 3),
        "json_fields_recall": pytest.approx(2 / 6),
        "json_fields_invalid": 0.5,
    }
    assert json_fields.by_field(rows) == {"a": 0.5, "b.c": 0.0, "d": 0.5}
    assert json_fields.f1(rows[0].accepted, rows[0].answer) == pytest.approx(2 * 2 / (3 + 4))


def test_the_order_of_a_list_does_not_count_and_a_field_too_many_does() -> None:
    turned = MENU | {"menu": MENU["menu"][::-1]}  # type: ignore[index]
    assert json_fields.f1([json.dumps(MENU)], json.dumps(turned)) == 1
    assert json_fields.f1(['{"a": 1}'], '{"a": 1, "b": 2}') == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "text",
    [
        '[{"bbox_2d": [10, 20, 110, 220], "label": "cat"}]',
        '```json\n[\n\t{"bbox_2d": [10, 20, 110, 220], "label": "cat"}\n]\n```',
        "<|object_ref_start|>cat<|object_ref_end|><|box_start|>(10,20),(110,220)<|box_end|>",
        "cat(10,20),(110,220)",
        "It is at [10.0, 20, 110, 220].",
    ],
)
def test_a_box_is_read_in_each_spelling(text: str) -> None:
    assert boxes.boxes_of(text) == [(10, 20, 110, 220)]


def test_intersection_over_union() -> None:
    assert boxes.intersection_over_union((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert boxes.intersection_over_union((0, 0, 4, 4), (0, 0, 4, 2)) == 0.5
    assert boxes.intersection_over_union((0, 0, 1, 1), (2, 2, 3, 3)) == 0
    assert boxes.intersection_over_union((1, 1, 1, 1), (1, 1, 1, 1)) == 0


def test_each_box_is_paired_once_and_a_box_without_a_pair_is_zero() -> None:
    two = "[0, 0, 4, 4] [10, 10, 14, 14]"
    assert boxes.iou([two], "[10, 10, 14, 14] [0, 0, 4, 2]") == pytest.approx((1 + 0.5) / 2)
    assert boxes.iou([two], "[0, 0, 4, 4]") == 0.5  # one is missing
    assert boxes.iou(["[0, 0, 4, 4]"], f"{two} [0, 0, 4, 4]") == pytest.approx(1 / 3)  # two are too many
    rows = [Answered(("[0, 0, 4, 4]",), "[0, 0, 4, 2]"), Answered(("[0, 0, 4, 4]",), "no box")]
    assert boxes.summary(rows) == {"iou": 0.25, "iou_accuracy_at_0.5": 0.5, "iou_without_box": 0.5}


def test_an_expected_answer_that_a_metric_cannot_compare_with_is_named() -> None:
    assert "is no JSON object or list" in (METRICS["json_fields"].problem(["a is 1"]) or "")
    assert "has no box" in (METRICS["iou"].problem(["a cat"]) or "")
    assert METRICS["json_fields"].problem(['{"a": 1}']) is METRICS["iou"].problem(["[1, 2, 3, 4]"]) is None
