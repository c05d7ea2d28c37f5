"""Brings a data set or a model from remote storage into a folder of the cache, with the names that it has there.

A folder ``snapshots/DIGEST`` never changes: DIGEST is made of the names and the SHA-256 of its files. A job that was
told the digest uses that folder and asks no server.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from model_garden.contract.addresses import join, relative_to
from model_garden.contract.memory_estimate import GIB
from model_garden.remote.cache import Cache, Local, link
from model_garden.remote.errors import RemoteError
from model_garden.remote.prune import prune
from model_garden.remote.space import free_at
from model_garden.remote.store import Found, Store

Progress = Callable[[int, int], None]
"""Told the bytes that are there and the bytes in all."""
DOWNLOADS = 16
"""Objects that are downloaded at the same time."""


@dataclass(frozen=True)
class Fetched:
    """What was fetched.

    Args:
        address: as the job gives it.
        path: the file or folder on disk.
        digest: a SHA-256 of the names and the bytes of all its files.
    """

    address: str
    path: Path
    digest: str


def digest_of(files: dict[str, str]) -> str:
    """The digest of files, given the SHA-256 of each by its relative path."""
    lines = "".join(f"{files[name]}  {name}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


@dataclass
class Snapshot:
    """A snapshot that is being made: files of one folder of remote storage.

    Args:
        folder: the address of the folder, with a slash at its end.
        place: the folder on disk.
    """

    cache: Cache
    store: Store
    folder: str
    place: Path
    tell: Progress
    files: dict[str, str] = field(default_factory=dict)
    _there: int = 0
    _total: int = 0
    _lock: Lock = field(default_factory=Lock)

    def add(self, objects: Iterable[Found]) -> None:
        """Bring objects of the folder; those that it has are skipped.

        Raises:
            RemoteError: one of them cannot be brought.
        """
        wanted = {name: found for found in objects if (name := relative_to(found.address, self.folder)) is not None}
        new = {name: found for name, found in wanted.items() if name not in self.files}
        missing = [found for found in new.values() if self.cache.get(found) is None]
        size = sum(max(0, found.size) for found in missing)
        free = free_at(self.cache.folder)
        if free is not None and size > free:
            raise RemoteError(
                "Full",
                f"{self.folder}: {size / GIB:.1f} GiB are to be downloaded, but the cache ({self.cache.folder}) has "
                f"only {free / GIB:.1f} GiB free; delete files on the cache claim, or make it larger",
            )
        self._total += size
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            for name, local in zip(new, pool.map(self._bring, new.values()), strict=True):
                self.link(name, local)

    def _bring(self, found: Found) -> Local:
        return self.cache.bring(self.store, found, self._arrived)

    def _arrived(self, count: int) -> None:
        with self._lock:
            self._there += count
            self.tell(self._there, max(self._there, self._total))

    def link(self, name: str, local: Local) -> None:
        """Give an object of the cache a name in the snapshot."""
        link(local.path, self.place / name)
        self.files[name] = local.sha256

    def addresses(self, names: Iterable[str]) -> list[str]:
        """The addresses of files by their relative paths."""
        return [join(self.folder, name) for name in names]


@contextmanager
def snapshot(cache: Cache, store: Store, folder: str, tell: Progress) -> Iterator[Snapshot]:
    """A new snapshot of a folder of remote storage. Its files are removed at the end, unless ``keep`` was called."""
    try:
        place = Path(tempfile.mkdtemp(dir=cache.folder / "snapshots", prefix="new-"))
    except OSError as error:
        raise RemoteError("Unwritable", f"{cache.folder}: cannot be written ({error.strerror}); free space") from error
    try:
        yield Snapshot(cache, store, folder, place, tell)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def keep(made: Snapshot) -> tuple[Path, str]:
    """Give a complete snapshot its final name; its folder and its digest."""
    digest = digest_of(made.files)
    final = made.cache.folder / "snapshots" / digest
    if not final.is_dir():
        try:
            made.place.rename(final)
        except OSError:
            if not final.is_dir():  # another process made the same one
                raise
    _use(final)
    prune(made.cache.folder)
    return final, digest


def kept(cache: Cache, digest: str | None) -> Path | None:
    """The folder of the snapshot with a digest; None if the cache lacks it."""
    folder = cache.folder / "snapshots" / digest if digest else None
    if not folder or not folder.is_dir():
        return None
    _use(folder)
    return folder


def _use(folder: Path) -> None:
    """Note that a job begins with a snapshot, so that it is not removed soon."""
    with suppress(OSError):  # a cache of another user, or a read-only one
        os.utime(folder)


def require(fetched: Fetched, expected: str | None) -> Fetched:
    """``fetched``, if it is what was expected.

    Raises:
        RemoteError: ``Changed``.
    """
    if expected and fetched.digest != expected:
        raise RemoteError(
            "Changed",
            f"{fetched.address}: changed since the job first read it (SHA-256 {expected[:12]}… then, "
            f"{fetched.digest[:12]}… now); create the job again to train on the new version",
        )
    return fetched


def names_below(place: Path, paths: Iterable[Path]) -> set[str]:
    """The relative paths of those files that are to be below ``place`` and are not there."""
    inside = (os.path.relpath(os.path.normpath(path), place) for path in paths if not path.exists())
    return {name for name in inside if not name.startswith("..")}
