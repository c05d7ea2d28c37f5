"""Images that rows name by http(s) addresses (``fetchPictures``): each is fetched once, into a folder of the cache.

The folder is a snapshot, whose digest stands for the addresses and the SHA-256 of their images. A job that was
told the digest uses that folder and asks no server, so that it trains on the same bytes whatever a server gives later.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock

from model_garden.datasets.errors import without_secrets
from model_garden.datasets.fetched_pictures import ADDRESSES, file_of, problem_file_of
from model_garden.remote.cache import Cache, Local, cache_folder
from model_garden.remote.errors import RemoteError
from model_garden.remote.snapshot import DOWNLOADS, Fetched, Progress, Snapshot, keep, kept, require, snapshot
from model_garden.remote.store import Store
from model_garden.remote.web import image_store

FIELD = "fetchPictures"
"""The field of the spec, which stands for the addresses of all rows."""
MAX_IMAGES = 100_000
MAX_BYTES = 100 * 2**30
"""Of all images together."""
MAX_FAILED = 100
"""Images that cannot be fetched, after which no other is tried."""
PAUSES = (1.0, 4.0)
"""Seconds between two tries to find an image, or to read one that changes meanwhile."""


def kept_images(expected: str | None) -> Fetched | None:
    """The images that a job was told of; None if the cache lacks them."""
    there = kept(Cache(cache_folder()), expected) if expected else None
    return Fetched(FIELD, there, str(expected)) if there else None


def fetch_images(
    addresses: Collection[str], *, expected: str | None = None, tell: Progress = lambda _there, _total: None
) -> Fetched:
    """Bring images. Of one that cannot be fetched, the folder holds the reason, which the check of its row reports.

    Args:
        addresses: of the images.
        expected: the digest of an earlier fetch; that version is used, and no other.
        tell: called with the number of images that are there and of all.

    Raises:
        RemoteError: ``TooLarge``: there are too many. ``Unwritable``. ``Changed``.
    """
    if there := kept_images(expected):
        return there
    if len(addresses) > MAX_IMAGES:
        fix = "download them next to the data file and give their paths"
        raise RemoteError("TooLarge", f"rows name {len(addresses):,} images, more than {MAX_IMAGES:,}; {fix}")
    with image_store() as store, snapshot(Cache(cache_folder()), store, "", lambda _there, _total: None) as made:
        wanted = sorted(addresses)
        _Fetcher(made, store, len(wanted), tell).fetch(wanted)
        table = {file_of(address): without_secrets(address) for address in wanted}
        (made.place / ADDRESSES).write_text(json.dumps(table), encoding="utf-8")
        path, digest = keep(made)
    return require(Fetched(FIELD, path, digest), expected)


class _Fetcher:
    def __init__(self, made: Snapshot, store: Store, total: int, tell: Progress) -> None:
        self._made, self._store, self._total, self._tell = made, store, total, tell
        self._done = self._failed = self._bytes = 0
        self._lock = Lock()

    def fetch(self, addresses: list[str]) -> None:
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            for address, found in zip(addresses, pool.map(self._one, addresses), strict=True):
                if isinstance(found, Local):
                    self._made.link(file_of(address), found)
                else:
                    _write_problem(self._made, address, found)

    def _one(self, address: str) -> Local | str:
        """An image, or why it could not be fetched."""
        if self._failed >= MAX_FAILED:
            return f"it was not tried, since {MAX_FAILED} others could not be fetched"
        try:
            found = self._patiently(address)
        except RemoteError as error:
            of_all = error.kind == "TooLarge" and not str(error).startswith(f"{address}: ")
            if of_all or error.kind in ("Unwritable", "Full"):
                raise
            with self._lock:
                self._failed += 1
            return str(error).removeprefix(f"{address}: ")
        finally:
            with self._lock:
                self._done += 1
                self._tell(self._done, self._total)
        return found

    def _patiently(self, address: str) -> Local:
        for pause in PAUSES:
            try:
                return self._bring(address)
            except RemoteError as error:
                if error.kind not in ("Unreachable", "Changed"):
                    raise
                time.sleep(pause)
        return self._bring(address)

    def _bring(self, address: str) -> Local:
        found = self._made.cache.bring(self._store, self._store.find(address), self._arrived)
        with suppress(OSError):
            if not found.path.stat().st_size:
                raise RemoteError("NotFound", f"{address}: the server sends no bytes")
        return found

    def _arrived(self, count: int) -> None:
        with self._lock:
            self._bytes += count
        if self._bytes > MAX_BYTES:
            raise RemoteError("TooLarge", f"the images of the rows have more than {MAX_BYTES:,} bytes; fetch fewer")


def _write_problem(made: Snapshot, address: str, reason: str) -> None:
    path: Path = made.place / problem_file_of(address)
    path.write_text(reason, encoding="utf-8")
    made.files[path.name] = hashlib.sha256(reason.encode()).hexdigest()
