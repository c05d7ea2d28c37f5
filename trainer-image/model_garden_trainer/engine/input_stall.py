"""Whether training waits for its data: a hint, once a run, where that costs more than a fifth of the time."""

from __future__ import annotations

from model_garden.contract.status import Progress

SHARE = 0.2
SECONDS = 20.0
"""Time to look at before anything is said."""


class Waiting:
    """Adds up what steps spent on data; the first report, in which loaders start, is left out."""

    def __init__(self, *, vision: bool) -> None:
        self._vision = vision
        self._reports = 0
        self._data = self._seconds = 0.0
        self._told = False

    def hint(self, progress: Progress, steps: int) -> str | None:
        """What to say after a report over ``steps`` steps, None for nothing (more)."""
        self._reports += 1
        if self._reports == 1 or self._told or progress.seconds_per_step is None or progress.data_seconds is None:
            return None
        self._data += steps * progress.data_seconds
        self._seconds += steps * progress.seconds_per_step
        if self._seconds < SECONDS or self._data <= SHARE * self._seconds:
            return None
        self._told = True
        share = self._data / self._seconds
        what = "pictures are read and resized" if self._vision else "rows are read and tokenized"
        smaller = ", lower imageOptions.maxPixels, or keep the pictures no larger than that" if self._vision else ""
        return (
            f"{share:.0%} of the training time goes by waiting for data: {what} more slowly than the model takes them; "
            f"give the job more CPUs (resources.requests.cpu){smaller}"
        )
