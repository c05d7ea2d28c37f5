"""What a job has fetched, noted in the cache, so that its next start reads the same bytes and asks no server.

``jobs/UID.json`` holds the digest of each snapshot by the field of the spec. A job with a preflight needs no note: its
status holds the digests.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from model_garden.remote.cache import cache_folder


def note(uid: str, digests: dict[str, str]) -> None:
    """Note what a job has fetched. In a cache that cannot be written, nothing is noted."""
    path = _file(uid)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(digests), encoding="utf-8")
        partial.replace(path)


def noted(uid: str) -> dict[str, str]:
    """What an earlier start of a job has fetched; empty if none has."""
    try:
        found: dict[str, str] = json.loads(_file(uid).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _file(uid: str) -> Path:
    return cache_folder() / "jobs" / f"{uid}.json"
