"""Scores of answers: pure functions of an answer and the accepted answers of its row.

Every score is from 0 to 1. Of several accepted answers, the one with the best score counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from model_garden.contract.evaluation import EvaluationMetric
from model_garden_trainer.evaluation import boxes, json_fields
from model_garden_trainer.evaluation.answered import Answered

ANLS_THRESHOLD = 0.5


@dataclass(frozen=True)
class Metric:
    """A metric of ``evaluation.metrics``.

    Args:
        score: of one answer, by the accepted answers and the answer.
        summary: the scores of all answers by name, of the answers and of the score of each; the first is the mean of
            ``score`` or stands for it.
        problem: what is wrong with the accepted answers of a row for this metric, and the fix; None if nothing is.
    """

    score: Callable[[Sequence[str], str], float]
    summary: Callable[[Sequence[Answered], Sequence[float]], Mapping[str, float]]
    problem: Callable[[Sequence[str]], str | None] = lambda _: None


def exact_match(expected: str, answer: str) -> float:
    """1 if both are equal without the white space around them, else 0."""
    return float(expected.strip() == answer.strip())


def similarity(expected: str, answer: str) -> float:
    """The share of characters that both have in the same order: 2 M / T.

    M is the length of the longest common subsequence, T the number of characters of both (the Indel similarity of
    rapidfuzz). Python's ``difflib`` gives nearly the same figure, but takes minutes for an answer that repeats itself.
    """
    from rapidfuzz.distance import Indel

    return float(Indel.normalized_similarity(expected.strip(), answer.strip()))  # untyped where it is not installed


def anls(expected: str, answer: str) -> float:
    """Normalized Levenshtein similarity of one answer (Biten et al., arXiv 1905.13648, equation 1).

    1 - d / m if d / m < 0.5, else 0, where d is the Levenshtein distance of both and m the length of the longer one.
    Case and white space around words do not count, as in the evaluation of DocVQA.
    """
    from rapidfuzz.distance import Levenshtein

    one, other = (" ".join(text.lower().split()) for text in (expected, answer))
    distance = Levenshtein.normalized_distance(one, other)
    return 1 - distance if distance < ANLS_THRESHOLD else 0.0


def _best(score: Callable[[str, str], float]) -> Callable[[Sequence[str], str], float]:
    return lambda accepted, answer: max(score(one, answer) for one in accepted)


def _text_metric(name: EvaluationMetric, score: Callable[[str, str], float]) -> Metric:
    return Metric(_best(score), lambda _, values: {name: fmean(values)})


METRICS: dict[EvaluationMetric, Metric] = {
    "exact_match": _text_metric("exact_match", exact_match),
    "similarity": _text_metric("similarity", similarity),
    "json_fields": Metric(json_fields.f1, lambda rows, _: json_fields.summary(rows), json_fields.problem),
    "anls": _text_metric("anls", anls),
    "iou": Metric(boxes.iou, lambda rows, _: boxes.summary(rows), boxes.problem),
}
