"""A hint, once a run, when training spends more than a fifth of its time waiting for data."""

from __future__ import annotations

from model_garden.contract.status import Progress

SHARE = 0.2
SECONDS = 20.0
"""Seconds of training to measure before a hint."""


class Waiting:
    """Sums the time that steps spent on data; it ignores the first report, in which loaders start."""

    def __init__(self, *, vision: bool) -> None:
        self._vision = vision
        self._reports = 0
        self._data = self._seconds = 0.0
        self._given = False

    def hint(self, progress: Progress, steps: int) -> str | None:
        """The hint after a report over ``steps`` steps; None without one, and after the first."""
        self._reports += 1
        if self._reports == 1 or self._given or progress.seconds_per_step is None or progress.data_seconds is None:
            return None
        self._data += steps * progress.data_seconds
        self._seconds += steps * progress.seconds_per_step
        if self._seconds < SECONDS or self._data <= SHARE * self._seconds:
            return None
        self._given = True
        share = self._data / self._seconds
        what = "images are read and resized" if self._vision else "rows are read and tokenized"
        smaller = ", lower imageOptions.maxPixels, or store smaller images" if self._vision else ""
        return (
            f"{share:.0%} of the training time is spent waiting for data: {what} more slowly than the model "
            f"trains on them; give the job more CPUs (resources.requests.cpu){smaller}"
        )
