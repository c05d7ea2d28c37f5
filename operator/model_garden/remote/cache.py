"""Downloaded objects on disk. Each version of an object is downloaded once, and a broken download resumes.

``objects/KEY`` holds the bytes, ``objects/KEY.sha256`` their digest and ``objects/KEY.partial`` a download that is not
complete. KEY is a hash of address, version and size, so that a partial file is never continued with other bytes.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from model_garden.remote.errors import RemoteError
from model_garden.remote.store import Found, Store
from model_garden.remote.stores import BLOCK

Tell = Callable[[int], None]
"""Told the bytes that arrived since the last call."""
WAITS = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Seconds between two tries of a download that broke off. Each try continues where the last one ended."""

LOCKS = 256


@dataclass(frozen=True)
class Local:
    """A downloaded object: its file, and the SHA-256 of its bytes."""

    path: Path
    sha256: str


def cache_folder() -> Path:
    """The folder of what is fetched: below ``XDG_CACHE_HOME``, which is the cache claim in a pod."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).expanduser() / "model-garden" / "remote"


def key_of(found: Found) -> str:
    """The name of a version of an object in the cache."""
    return hashlib.sha256(f"{found.address}\0{found.version}\0{found.size}".encode()).hexdigest()[:40]


class Cache:
    """The objects below a folder. Several processes may use it at the same time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with _on_disk(folder):
            (folder / "objects").mkdir(parents=True, exist_ok=True)
            (folder / "snapshots").mkdir(exist_ok=True)

    def get(self, found: Found) -> Local | None:
        """A version of an object that was downloaded before; None if it was not."""
        path = self.folder / "objects" / key_of(found)
        try:
            if found.version and found.size in (-1, path.stat().st_size):
                with suppress(PermissionError):
                    os.utime(path)  # so that it is not removed now
                return Local(path, path.with_suffix(".sha256").read_text())
        except OSError:
            pass
        return None

    def bring(self, store: Store, found: Found, tell: Tell = lambda _: None) -> Local:
        """Download a version of an object, unless it is there.

        Raises:
            RemoteError: it cannot be read, it changed, its bytes are not those of the server's checksum, or the cache
                cannot be written.
        """
        path = self.folder / "objects" / key_of(found)
        with _on_disk(self.folder), _only_one(path, found):
            return self.get(found) or _download(store, found, path, tell)


def _download(store: Store, found: Found, path: Path, tell: Tell) -> Local:
    partial = path.with_suffix(".partial")
    for wait in (*WAITS, None):
        if not found.version or found.size < 0:  # nothing shows whether a partial file is of this version, or whole
            partial.unlink(missing_ok=True)
        try:
            _append(store, found, partial, tell)
            break
        except RemoteError as error:
            if error.kind != "Unreachable" or wait is None:
                raise
            time.sleep(wait)
    sha256 = _checked(store, found, partial)
    path.with_suffix(".sha256").write_text(sha256)
    partial.replace(path)
    return Local(path, sha256)


def _append(store: Store, found: Found, partial: Path, tell: Tell) -> None:
    start = partial.stat().st_size if partial.exists() else 0
    if 0 <= found.size < start:
        partial.unlink()
        start = 0
    tell(start)
    got = start
    if start == found.size:
        partial.touch()
        return
    try:
        with partial.open("ab") as file:
            for block in store.read(found, start):
                file.write(block)
                got += len(block)
                tell(len(block))
    except RemoteError:
        tell(-got)
        raise
    if found.size not in (-1, got):
        tell(-got)
        raise RemoteError(
            "Unreachable", f"{found.address}: only {got} of {found.size} bytes arrived; check the network"
        )


def _checked(store: Store, found: Found, partial: Path) -> str:
    """The SHA-256 of a download, whose bytes are compared with the MD5 that S3 gives as entity tag of most objects."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with partial.open("rb") as file:
        while block := file.read(BLOCK):
            sha256.update(block)
            md5.update(block)
    if not store.may_have_md5(found, md5.hexdigest()):
        partial.unlink()
        raise RemoteError(
            "Damaged", f"{found.address}: the bytes that arrived have another MD5 than its entity tag; upload it again"
        )
    return sha256.hexdigest()


def link(source: Path, target: Path) -> None:
    """A second name for a file, or a copy on a file system without hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextmanager
def _only_one(path: Path, found: Found) -> Iterator[None]:
    """One process at a time downloads an object, and the others wait for it. Objects share ``LOCKS`` files."""
    with (path.parent / f"lock-{int(key_of(found)[:8], 16) % LOCKS}").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _on_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RemoteError(
                "Full", f"{folder}: is full; delete files on the cache claim, or make it larger"
            ) from error
        raise RemoteError(
            "Unwritable",
            f"{folder}: cannot be written ({error.strerror or error}); check the permissions of the cache claim",
        ) from error
