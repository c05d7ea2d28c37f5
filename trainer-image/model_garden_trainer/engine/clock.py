"""Where the time of a step goes, and the figures since the last report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

PARTS = ("data", "forward", "backward", "optimizer")


def mark_gpu() -> torch.cuda.Event:
    """A mark that the GPU sets when it comes to it."""
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


class Clock:
    """The seconds that each part of a step took (data, forward, backward, optimizer), summed until ``take``.

    On a GPU, marks are set between its work and read in ``take``, so that the figures are those of the work and nothing
    waits for it meanwhile. The wait for data is a time of this process.

    Args:
        mark: sets a mark, ``mark_gpu`` where there is a GPU. Its marks have ``elapsed_time`` (milliseconds to another)
            and ``synchronize``, which waits until it is set.
    """

    def __init__(self, mark: Callable[[], Any] | None = None) -> None:
        self._mark = mark or (mark_gpu if torch.cuda.is_available() else time.perf_counter)
        self._spans: list[tuple[str, Any, Any, int]] = []
        self._running: list[str] = []

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the time within to ``part``, and take it from the part that is measured around it."""
        began = self.now(part)
        self._running.append(part)
        try:
            yield
        finally:
            self._running.pop()
            self.end(part, began)

    def now(self, part: str) -> Any:
        """A mark of this moment, for ``end`` of the same part."""
        return time.perf_counter() if part == "data" else self._mark()

    def end(self, part: str, began: Any) -> None:
        """Add the time since the mark ``began`` to ``part``."""
        ended = self.now(part)
        self._spans.append((part, began, ended, 1))
        if self._running:
            self._spans.append((self._running[-1], began, ended, -1))

    def take(self) -> dict[str, float]:
        """Return the sums and start again at 0; on a GPU, wait until it has done what was measured."""
        spans, self._spans = self._spans, []
        spent = dict.fromkeys(PARTS, 0.0)
        for part, began, ended, sign in spans:
            spent[part] += sign * _seconds(began, ended)
        return spent


def _seconds(began: Any, ended: Any) -> float:
    if isinstance(began, float):
        return float(ended - began)
    ended.synchronize()
    return float(began.elapsed_time(ended)) / 1000


@dataclass
class Window:
    """Figures since the last report. A checkpoint keeps ``loss`` and ``steps``; a resumed run reports the same.

    ``tokens`` may be a tensor on a GPU, which nothing waits for before the report.
    """

    loss: float = 0.0
    steps: int = 0
    samples: int = 0
    tokens: int | torch.Tensor = 0
    seconds: float = 0.0
    timed_steps: int = 0
