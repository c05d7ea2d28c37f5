"""A bar with bytes on stderr: in a terminal it moves, elsewhere a line is printed now and then."""

from __future__ import annotations

import time
from typing import Self

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from model_garden.cli.output import console, note
from model_garden.services import format

PLAIN_SECONDS = 10.0
"""Without a terminal, seconds between two lines."""


class TransferBar:
    """Counts the bytes of a transfer. Use as a context manager.

    Args:
        what: what is transferred, such as ``Uploading``.
        total: bytes.
    """

    def __init__(self, what: str, total: int) -> None:
        shown = console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._progress = Progress(
            *columns, TimeRemainingColumn(), console=shown, transient=True, disable=not shown.is_terminal
        )
        self._task = self._progress.add_task(what, total=total)
        self._plain = None if shown.is_terminal else what
        self._total, self._done, self._said = total, 0, time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, count: int) -> None:
        """Count bytes."""
        self._done += count
        self._progress.advance(self._task, count)
        if self._plain and time.monotonic() - self._said > PLAIN_SECONDS:
            self._said = time.monotonic()
            note(f"{self._plain}: {format.size(self._done)} of {format.size(self._total)}")
