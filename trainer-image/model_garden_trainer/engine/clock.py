"""Where the time of a step goes, and the figures since the last report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

PARTS = ("data", "forward", "backward", "optimizer")


class Clock:
    """The seconds that each part of a step took (data, forward, backward, optimizer), summed until ``take``.

    On a GPU a part ends when the GPU has finished it, so the figures measure the work and not its launch.
    """

    def __init__(self) -> None:
        self._wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
        self._spent = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the time within to ``part``."""
        began = time.perf_counter()
        yield
        self.end(part, began)

    def end(self, part: str, began: float) -> None:
        """Add the time since ``began`` to ``part``, after the GPU has finished its work.

        The wait costs the overlap between the GPU's work on this part and the launch of the next one.
        """
        self._wait()
        self._spent[part] += time.perf_counter() - began

    def add(self, part: str, seconds: float) -> None:
        """Add ``seconds`` to ``part``; negative ones take away what another part has counted."""
        self._spent[part] += seconds

    def spent(self, part: str) -> float:
        """The sum of ``part`` so far."""
        return self._spent[part]

    def take(self) -> dict[str, float]:
        """Return the sums and start again at 0."""
        spent, self._spent = self._spent, dict.fromkeys(PARTS, 0.0)
        return spent


@dataclass
class Window:
    """Figures since the last report. A checkpoint keeps ``loss`` and ``steps``; a resumed run reports the same."""

    loss: float = 0.0
    steps: int = 0
    samples: int = 0
    tokens: int = 0
    seconds: float = 0.0
    timed_steps: int = 0
