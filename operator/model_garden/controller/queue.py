"""The work queue, as client-go's: each key waits once, one worker at a time works on it, and a failure is retried."""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

_log = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 120.0


class WorkQueue(Generic[Key]):
    """Keys to work on, now or later.

    A key added while it is worked on is worked on again afterwards, never twice at once.
    """

    def __init__(self) -> None:
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._waiting: set[Key] = set()
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._due: dict[Key, float] = {}
        self._later: list[tuple[float, int, Key]] = []
        self._count = 0
        self._failures: dict[Key, int] = {}
        self._timer = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: Key) -> None:
        """Work on ``key`` as soon as a worker is free."""
        self._due.pop(key, None)
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """Work on ``key`` in so many seconds, unless it is to be worked on sooner."""
        due = time.monotonic() + seconds
        if key in self._waiting or self._due.get(key, due + 1) <= due:
            return
        self._due[key] = due
        self._count += 1
        heapq.heappush(self._later, (due, self._count, key))
        self._timer.set()

    async def run(self, workers: int, work: Callable[[Key], Awaitable[float | None]]) -> None:
        """Call ``work`` for each key until canceled. It returns in how many seconds to work on the key again, or None.

        When ``work`` raises, the key is retried after a pause that doubles each time, with jitter.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick())
            for _ in range(workers):
                group.create_task(self._work(work))

    async def _work(self, work: Callable[[Key], Awaitable[float | None]]) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._working.add(key)
            try:
                later = await work(key)
                self._failures.pop(key, None)
            except Exception as error:
                later = self._back_off(key)
                _log.warning("reconciling failed, again in %.1f s: %s", later, error, exc_info=_unexpected(error))
            finally:
                self._working.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            elif later is not None:
                self.add_after(key, later)

    def _back_off(self, key: Key) -> float:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        pause: float = min(FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 20), LONGEST_PAUSE_SECONDS)
        return pause * random.uniform(0.5, 1.0)

    async def _tick(self) -> None:
        """Move keys that are due to the ready ones."""
        while True:
            self._timer.clear()
            while self._later and self._later[0][0] <= time.monotonic():
                due, _, key = heapq.heappop(self._later)
                if self._due.get(key) == due:
                    self.add(key)
            pause = self._later[0][0] - time.monotonic() if self._later else None
            try:
                await asyncio.wait_for(self._timer.wait(), pause)
            except TimeoutError:
                continue


def _unexpected(error: Exception) -> bool:
    """Whether an error is a fault of this program rather than the cluster's answer."""
    return not hasattr(error, "retryable")
