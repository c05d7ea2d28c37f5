"""The main process of a storage pod: ends when no verb ran for SECONDS, its argument.

A verb shares a lock while it works. Standard library only.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ACTIVITY = Path(".activity")
"""Locked by the verbs that work; its time is that of the last one's start or end. In the current folder."""
LOOK_SECONDS = 1.0


@contextmanager
def busy() -> Iterator[None]:
    """A context in which the main process does not end."""
    with ACTIVITY.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        os.utime(ACTIVITY)
        try:
            yield
        finally:
            os.utime(ACTIVITY)


def wait_until_idle(seconds: float) -> None:
    """Return when no verb worked for ``seconds``. A verb that starts after that waits until this process has ended."""
    file = ACTIVITY.open("ab")
    os.utime(ACTIVITY)
    while True:
        time.sleep(LOOK_SECONDS)
        if time.time() - ACTIVITY.stat().st_mtime < seconds:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            continue


if __name__ == "__main__":
    # The first process of a container has no default reaction to a signal.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    wait_until_idle(float(sys.argv[1]))
