"""Writes a folder to a bucket, and sees beforehand that this is possible."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock

from model_garden.remote.cache import WAITS
from model_garden.remote.errors import RemoteError
from model_garden.remote.snapshot import Progress
from model_garden.remote.stores import BLOCK, BucketStore

UPLOADS = 4
"""Files that are uploaded at the same time."""
_WRITE_TEST = ".model-garden-write-test"


def check_writable(folder: str, record: str, name: str, endpoint: str | None = None) -> None:
    """Write a small object below an address, and delete it again.

    Args:
        folder: the address, with a slash at its end.
        record: the file that a complete model has there.
        name: the job's. A folder that holds the model of another job is refused.
        endpoint: see ``open_store``.

    Raises:
        RemoteError: it cannot be written.
    """
    store = BucketStore(folder, endpoint)
    owner = _owner(store, folder + record)
    if owner not in (None, name):
        raise RemoteError("Unwritable", f"{folder}: already holds the model of job {owner!r}; choose another prefix")
    store.write(folder + _WRITE_TEST, b"")
    with suppress(RemoteError):  # an account may have the right to write and not to delete
        store.remove(folder + _WRITE_TEST)


def push_folder(
    address: str,
    folder: Path,
    files: Sequence[Path],
    last: tuple[str, bytes],
    endpoint: str | None = None,
    tell: Progress = lambda _there, _total: None,
) -> None:
    """Upload files of a folder under their relative paths. Each is tried again while the server does not answer.

    Args:
        address: where to, with a slash at its end.
        folder: the folder.
        files: files in it.
        last: name and content of an object that is written when all others are there; an old one is removed first.
        endpoint: see ``open_store``.
        tell: called with the bytes that were sent and the bytes in all.

    Raises:
        RemoteError: a file could not be uploaded.
    """
    store = BucketStore(address, endpoint)
    sent = _Sent(sum(path.stat().st_size for path in files), tell)

    def upload(path: Path) -> None:
        _patiently(lambda: _upload(store, address + path.relative_to(folder).as_posix(), path, sent))

    _patiently(lambda: _withdraw(store, address + last[0]))
    with ThreadPoolExecutor(UPLOADS) as pool:
        list(pool.map(upload, files))
    _patiently(lambda: store.write(address + last[0], last[1]))


class _Sent:
    """The bytes that all uploads have sent."""

    def __init__(self, total: int, tell: Progress) -> None:
        self._total, self._tell, self._there, self._lock = total, tell, 0, Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._there += count
            self._tell(self._there, self._total)


def _withdraw(store: BucketStore, record: str) -> None:
    """Remove a record, or empty it where the account may write and not delete: it must not describe other files."""
    try:
        store.remove(record)
    except RemoteError as error:
        if error.kind == "Denied":
            store.write(record, b"")
        elif error.kind != "NotFound":
            raise


def _upload(store: BucketStore, address: str, path: Path, sent: _Sent) -> None:
    size, counted = path.stat().st_size, 0

    def blocks() -> Iterator[bytes]:
        nonlocal counted
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                yield block
                counted += len(block)
                sent.add(len(block))

    try:
        store.write(address, blocks() if size > BLOCK else path.read_bytes())
        sent.add(size - counted)
        arrived = store.find(address).size
    except RemoteError:
        sent.add(-counted)
        raise
    if arrived != size:
        raise RemoteError("Unreachable", f"{address}: has {arrived} bytes after the upload of {size}; push it again")


def _patiently(upload: Callable[[], None]) -> None:
    for wait in (*WAITS, None):
        try:
            upload()
        except RemoteError as error:
            if error.kind != "Unreachable" or wait is None:
                raise
            time.sleep(wait)
        else:
            return


def _owner(store: BucketStore, address: str) -> str | None:
    """The job whose model is at an address; None if there is none, or if the account may not read it."""
    try:
        content = b"".join(store.read(store.find(address), 0))
        return str(json.loads(content).get("name"))
    except (RemoteError, ValueError, AttributeError):
        return None
