"""The metric ``iou``: how well boxes in an answer cover the expected boxes.

A box is four numbers x1, y1, x2, y2: ``[x1, y1, x2, y2]`` alone or in JSON such as Qwen2.5-VL's ``"bbox_2d"``, or
Qwen2-VL's ``<|box_start|>(x1,y1),(x2,y2)<|box_end|>``, whose control tokens are not needed. Labels are not compared.
IoU, the area of the intersection divided by that of the union, and its threshold 0.5 are those of referring expression
comprehension (Yu et al., arXiv 1608.00272).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean

from model_garden_trainer.evaluation.answered import Answered

Box = tuple[float, float, float, float]

THRESHOLD = 0.5
_NUMBER = r"\s*(-?\d+(?:\.\d+)?)\s*"
_BOXES = re.compile(
    rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]|\({_NUMBER},{_NUMBER}\)\s*,\s*\({_NUMBER},{_NUMBER}\)"
)


def boxes_of(text: str) -> list[Box]:
    """The boxes in a text, in its order."""
    found = (tuple(float(number) for number in match.groups() if number) for match in _BOXES.finditer(text))
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in found]


def intersection_over_union(one: Box, other: Box) -> float:
    """Area of the intersection divided by the area of the union; 0 for boxes without an area."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    union = _area(one) + _area(other) - shared
    return shared / union if union > 0 else 0.0


def iou(accepted: Sequence[str], answer: str) -> float:
    """The mean IoU of one answer; a box that is missing or too many counts as 0."""
    return max(fmean(_ious(expected, answer)) for expected in accepted)


def summary(rows: Sequence[Answered]) -> dict[str, float]:
    """The mean of ``iou``, the mean share of boxes with an IoU of 0.5 and above, and the share of answers without a
    box."""
    best = [max((_ious(expected, row.answer) for expected in row.accepted), key=fmean) for row in rows]
    return {
        "iou": fmean(map(fmean, best)),
        "iou_accuracy_at_0.5": fmean(fmean(float(value >= THRESHOLD) for value in values) for values in best),
        "iou_without_box": fmean(float(not boxes_of(row.answer)) for row in rows),
    }


def problem(accepted: Sequence[str]) -> str | None:
    """What is wrong with expected answers, one of which has no box."""
    wrong = next((text for text in accepted if not boxes_of(text)), None)
    if wrong is None:
        return None
    return f"the expected answer {wrong[:80]!r} has no box such as [x1, y1, x2, y2]; correct it"


def _ious(expected: str, answer: str) -> list[float]:
    """The IoU of each pair of boxes, the best pairs first, each box in one pair; 0 for each box without a pair."""
    wanted, given = boxes_of(expected), boxes_of(answer)
    pairs = sorted(
        ((intersection_over_union(one, other), i, j) for i, one in enumerate(wanted) for j, other in enumerate(given)),
        key=lambda pair: (-pair[0], pair[1], pair[2]),
    )
    taken: tuple[set[int], set[int]] = (set(), set())
    values = []
    for value, i, j in pairs:
        if i not in taken[0] and j not in taken[1]:
            taken[0].add(i)
            taken[1].add(j)
            values.append(value)
    return values + [0.0] * (max(len(wanted), len(given)) - len(values))


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])
