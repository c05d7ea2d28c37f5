"""The figures of ``metrics.jsonl`` as points of a chart."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from model_garden_trainer.events import METRICS_FILE

_NO_METRICS = ("step", "totalSteps", "percent")


@dataclass(frozen=True)
class Point:
    """The figures of one step.

    Args:
        step: the optimizer step.
        seconds: when it was reported, in seconds since the epoch.
        figures: the value of each figure by its name in ``status.progress``.
        position: the place in the order of all points: the step, and 1 for an evaluation, which follows training, and 2
            for the scores of the trained model.
    """

    step: int
    seconds: float
    figures: dict[str, float]
    position: tuple[int, int]


def point_of(line: Mapping[str, Any]) -> Point:
    """A line of ``metrics.jsonl`` as a point."""
    figures = dict(_figures(line))
    reported = line.get("lastReportTime")
    seconds = datetime.fromisoformat(reported).timestamp() if reported else time.time()
    return Point(line["step"], seconds, figures, (line["step"], 2 if "evaluation" in line else int("evalLoss" in line)))


def _figures(line: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in line.items():
        if isinstance(value, Mapping):
            yield from _figures(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and key not in _NO_METRICS:
            yield f"{prefix}{key}", float(value)


class PointReader:
    """Reads the points that a run adds to ``metrics.jsonl``, which a resumed run replaces."""

    def __init__(self, output: Path) -> None:
        self._path, self._inode, self._offset = output / METRICS_FILE, 0, 0

    def after(self, position: tuple[int, int]) -> list[Point]:
        """The new points after ``position``. A line that is not complete yet is left for later."""
        try:
            with self._path.open("rb") as file:
                inode = self._path.stat().st_ino
                if inode != self._inode:
                    self._inode, self._offset = inode, 0
                file.seek(self._offset)
                content = file.read()
        except OSError:
            return []
        complete = content[: content.rfind(b"\n") + 1]
        self._offset += len(complete)
        found = []
        for line in complete.splitlines():
            record = json.loads(line)
            if "samples" not in record and (point := point_of(record)).position > position:
                position = point.position
                found.append(point)
        return found
