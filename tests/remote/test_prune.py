"""What the cache keeps, and what it removes."""

from __future__ import annotations

import os
from pathlib import Path

from model_garden.remote.fetch import fetch_dataset
from model_garden.remote.snapshot import Fetched
from tests.remote.servers import Bucket

ROWS = b'{"text": "a"}\n'


def fetch(bucket: Bucket, name: str, expected: str | None = None) -> Fetched:
    bucket.put(f"{name}.jsonl", ROWS + name.encode())
    return fetch_dataset(bucket.url(f"{name}.jsonl"), vision=False, endpoint=bucket.endpoint, expected=expected)


def age(cache: Path) -> None:
    """Make all of the cache older than it is kept."""
    for path in [*cache.glob("snapshots/*"), *cache.glob("objects/*")]:
        os.utime(path, (1_000_000_000, 1_000_000_000))


def test_what_no_job_used_for_long_is_removed_when_something_else_is_fetched(bucket: Bucket, cache: Path) -> None:
    old, used = fetch(bucket, "old"), fetch(bucket, "used")
    age(cache)
    fetch_dataset(used.address, vision=False, endpoint=bucket.endpoint, expected=used.digest)
    new = fetch(bucket, "new")
    assert not old.path.exists()
    assert used.path.read_bytes() == ROWS + b"used" and new.path.read_bytes() == ROWS + b"new"
    objects = [path for path in cache.glob("objects/*") if path.suffix == "" and not path.name.startswith("lock-")]
    assert sorted(path.read_bytes() for path in objects) == [ROWS + b"new", ROWS + b"used"]
    assert len(list(cache.glob("objects/*.sha256"))) == 2


def test_what_is_fetched_again_is_downloaded_again(bucket: Bucket, cache: Path) -> None:
    old = fetch(bucket, "old")
    age(cache)
    fetch(bucket, "new")
    assert fetch_dataset(old.address, vision=False, endpoint=bucket.endpoint, expected=old.digest).path == old.path
    assert old.path.read_bytes() == ROWS + b"old"
