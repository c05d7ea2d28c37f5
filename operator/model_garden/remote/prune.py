"""Removes from the cache what no job has begun with for long."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path

UNUSED_SECONDS = 30 * 24 * 3600.0
"""Seconds after the last start of a job with a snapshot after which the snapshot is removed."""


def prune(folder: Path) -> None:
    """Remove notes and snapshots that were not used for ``UNUSED_SECONDS``, and objects of that age in no snapshot.

    Args:
        folder: the cache. Other processes may prune it at the same time.
    """
    limit = time.time() - UNUSED_SECONDS
    for path in (folder / "jobs").glob("*.json"):
        if _changed(path) < limit:
            path.unlink(missing_ok=True)
    old = [place for place in (folder / "snapshots").iterdir() if _changed(place) < limit]
    for place in old:
        shutil.rmtree(place, ignore_errors=True)
    for path in (folder / "objects").iterdir() if old else ():  # there may be a great many
        if path.suffix == ".sha256" or path.name.startswith("lock-"):
            continue
        with suppress(FileNotFoundError):
            if path.stat().st_nlink == 1 and _changed(path) < limit:
                path.unlink()
                path.with_suffix(".sha256").unlink()


def _changed(path: Path) -> float:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return time.time()
