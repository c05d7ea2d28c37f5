"""PURE: the curves of a run, kept within 64 points however long it trains."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, zip_longest
from statistics import median_low

from model_garden.contract.status import MAX_HISTORY, HistoryPoint


def add_point(history: Sequence[HistoryPoint], point: HistoryPoint) -> list[HistoryPoint]:
    """``history`` with ``point`` in it: sorted by step, each step once, at most 64 points, the first and last kept.

    When full, every second point goes and so the spacing doubles; between two points of the grid the last point is
    provisional: the next one takes its place. A point with ``evalLoss`` outlives its neighbors. A step that is there
    already is updated (a later attempt repeats steps), and an unknown one from before the last was thinned out: adding
    the same points again, as after a restart of the operator, changes nothing.
    """
    points = list(history)
    if points and point.step <= points[-1].step:
        return [_updated(old, point) if old.step == point.step else old for old in points]
    if len(points) > 2 and _provisional(points):
        points.pop()
    points.append(point)
    return _thinned(points) if len(points) > MAX_HISTORY else points


def _updated(old: HistoryPoint, new: HistoryPoint) -> HistoryPoint:
    return old.model_copy(update=new.model_dump(exclude_none=True))


def _provisional(points: Sequence[HistoryPoint]) -> bool:
    """Whether the last point is nearer to its neighbor than the spacing: the usual gap between those before it."""
    steps = [point.step for point in points]
    spacing = median_low([after - before for before, after in pairwise(steps[:-1])])
    return points[-1].eval_loss is None and steps[-1] - steps[-2] < spacing


def _thinned(points: Sequence[HistoryPoint]) -> list[HistoryPoint]:
    """The first and the last point, and of those between one of each two: the one with ``evalLoss``, else the later."""
    first, *between, last = points
    kept = []
    for left, right in zip_longest(between[::2], between[1::2]):
        if left.eval_loss is not None and (right is None or right.eval_loss is None):
            kept.append(left)
        elif right is not None:
            kept.append(right)
    return [first, *kept, last]
