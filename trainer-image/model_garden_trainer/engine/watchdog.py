"""The watchdog: it ends a run that makes no step in time, after printing the stacks of all threads."""

from __future__ import annotations

import faulthandler
import sys
import threading
import time
from collections.abc import Callable


class Watchdog:
    """Ends a run whose next heartbeat (a step, an evaluated batch, a checkpoint) does not come in time.

    Args:
        first_seconds: longest wait for the first heartbeat.
        later_seconds: longest wait between two heartbeats.
        on_hang: called in the watchdog's thread with the message, after the stacks were printed; it ends the process.
    """

    def __init__(self, first_seconds: float, later_seconds: float, on_hang: Callable[[str], None]) -> None:
        self._later_seconds = later_seconds
        self._on_hang = on_hang
        self._allowed = first_seconds
        self._since = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._since = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def beat(self) -> None:
        """Record a heartbeat."""
        self._since, self._allowed = time.monotonic(), self._later_seconds

    def _watch(self) -> None:
        while not self._done.wait(min(1.0, self._allowed / 4)):
            waited = time.monotonic() - self._since
            if waited > self._allowed:
                faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
                self._on_hang(
                    f"no step was finished for {waited:.0f} s, and {self._allowed:.0f} s are allowed "
                    "(health.firstStepSeconds, health.stepSeconds); the stacks of all threads are in the log"
                )
                return
