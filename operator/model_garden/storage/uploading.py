"""Files on their way into a folder of ``data``: collected in a hidden folder beside it, checked, then swapped in.

The new folder has hard links to those files of the old one that stay, so that nothing is copied and a reader sees
either the old folder or the new one.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from model_garden.services.data_check import check_data, trainer_packages
from model_garden.services.errors import Conflict
from model_garden.storage.disk import storage_errors, swap
from model_garden.storage.interface import (
    AS_IT_IS,
    BrokenDataset,
    FileDigest,
    Reading,
    StoredDataset,
    UploadRefused,
    UploadReport,
)
from model_garden.storage.listing import files_below, stored_dataset
from model_garden.storage.paths import DATA, STAGING, relative_path, spell
from model_garden.storage.preview import check_as, spelled

BLOCK = 1024 * 1024
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What ``link(2)`` says where a file system has no hard links, or no more of a file."""
STALE = 24 * 3600.0
"""Seconds after which an upload that wrote nothing is one whose process was killed."""


class FolderUpload:
    """The ``Upload`` into a folder of this machine.

    Args:
        data: the data folder.
        name: the folder in it.
        used_by: jobs that still read the folder; with any, no file that is there is replaced.
    """

    def __init__(self, data: Path, name: str, used_by: Sequence[str] = ()) -> None:
        self._data, self._name, self._used_by = data, name, used_by
        self._final = data / name
        self._staging = data / f"{STAGING}{secrets.token_hex(8)}"
        self._digests: dict[str, FileDigest] = {}
        self._added: dict[str, int] = {}
        self._skipped: dict[str, int] = {}  # by path, the inode of the file that is there
        self._finishing: asyncio.Future[UploadReport] | None = None

    async def begin(self) -> None:
        """Make the hidden folder.

        Raises:
            Conflict: something else has the folder's name.
            MissingPackages: the packages that read data sets are not installed.
            StorageFailed: nothing can be written.
        """
        with storage_errors(self._spell):
            await asyncio.to_thread(self._begin)

    def _begin(self) -> None:
        with trainer_packages():
            from model_garden.datasets import pictures  # noqa: F401
        if self._final.is_symlink() or (self._final.exists() and not self._final.is_dir()):
            raise Conflict(f"./{DATA}/{self._name} is a file or a symbolic link; choose another folder")
        self._data.mkdir(exist_ok=True)
        discard_stale(self._data)
        self._staging.mkdir()

    async def discard(self) -> None:
        """Remove what is not stored. A ``finish`` whose caller was cancelled comes to its end before."""
        if self._finishing:
            await asyncio.wait((self._finishing,))
        await asyncio.to_thread(shutil.rmtree, self._staging, ignore_errors=True)

    async def missing(self, files: list[FileDigest]) -> list[FileDigest]:
        """Those that the folder does not hold with this content."""
        for file in files:
            relative_path(file.path)
        self._digests |= {file.path: file for file in files}
        with storage_errors(self._spell):
            there = await asyncio.to_thread(lambda: [_holds(self._final, file) for file in files])
        self._skipped |= {file.path: held for file, held in zip(files, there, strict=True) if held is not None}
        return [file for file, held in zip(files, there, strict=True) if held is None]

    async def add(self, path: str, size: int, content: AsyncIterator[bytes]) -> None:
        """Receive one file."""
        target = self._staging / relative_path(path)
        if path in self._added:
            raise UploadRefused(f"{path}: was sent twice; send each file once")
        if self._used_by and os.path.lexists(self._final / path):
            raise Conflict(
                f"./{DATA}/{self._name}/{path} has other content, and {', '.join(self._used_by)} still reads it; "
                "upload to another folder, or wait until the job has ended"
            )
        with storage_errors(self._spell):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                file = target.open("xb", buffering=0)
            except (FileExistsError, NotADirectoryError) as both:
                raise UploadRefused(f"{path}: the name is that of a file and of a folder; rename one of them") from both
            try:
                with file:
                    await _receive(file, path, size, self._digests.get(path), content)
            except BaseException:
                target.unlink()
                raise
        self._added[path] = size
        self._skipped.pop(path, None)

    async def finish(self, reading: Reading = AS_IT_IS, *, keep_invalid: bool = False) -> UploadReport:
        """Check the data set, then make the folder visible at once."""
        self._finishing = asyncio.ensure_future(asyncio.to_thread(self._finish, reading, keep_invalid))
        return await asyncio.shield(self._finishing)

    def _finish(self, reading: Reading, keep_invalid: bool) -> UploadReport:
        with storage_errors(self._spell):
            return self._checked_and_published(reading, keep_invalid)

    def _checked_and_published(self, reading: Reading, keep_invalid: bool) -> UploadReport:
        kept = _identities(self._final)
        if any(kept.get(path) != held for path, held in self._skipped.items()):
            raise self._changed()
        for path in kept:
            _keep(self._final / path, self._staging / path, path)
        dataset = self._dataset()
        found = _checks_of(self._staging, dataset, self._data, reading)
        checks = [spelled(check, self._spell) for check in found]
        stored = keep_invalid or all(check["ok"] for check in checks)
        report = UploadReport(
            folder=f"./{DATA}/{self._name}",
            path=self._path_of(dataset),
            stored=stored,
            added=len(self._added),
            replaced=len(self._added.keys() & kept.keys()),
            skipped=len(self._skipped),
            size=sum(self._added.values()),
            checks=checks,
        )
        if not stored:
            raise BrokenDataset(report)
        self._publish(kept)
        return report

    def _publish(self, kept: dict[str, int]) -> None:
        """Give the folder its name; what was there before is deleted.

        Raises:
            Conflict: another upload gave the folder other files since ``kept`` was read.
        """
        if not self._final.exists():
            try:
                self._staging.rename(self._final)
            except OSError as taken:
                raise self._changed() from taken
            return
        swap(self._staging, self._final)
        if _identities(self._staging) != kept:
            swap(self._staging, self._final)
            raise self._changed()

    def _changed(self) -> Conflict:
        return Conflict(f"./{DATA}/{self._name} was changed by someone else during the upload; upload again")

    def _dataset(self) -> StoredDataset | None:
        return stored_dataset(self._name, list(files_below(self._staging, self._data)))

    def _path_of(self, dataset: StoredDataset | None) -> str:
        """The only data file of this upload, whatever else the folder holds; else the path of the data set."""
        folder = f"./{DATA}/{self._name}"
        if dataset is None:
            return folder
        sent = {f"{folder}/{path}" for path in (*self._added, *self._skipped)}
        rows = [path for path in dataset.data_files if path in sent]
        return rows[0] if len(rows) == 1 else dataset.path

    def _spell(self, text: str) -> str:
        text = spell(text, self._staging, f"./{DATA}/{self._name}")
        return spell(text, self._data, f"./{DATA}")


def _checks_of(folder: Path, dataset: StoredDataset | None, data: Path, reading: Reading) -> list[dict[str, Any]]:
    """The report of each data file. Relative paths of images mean the same here as in the final folder."""
    if dataset is None:
        from model_garden.datasets.files import SUFFIXES

        problem = f"{folder}: has no data file; accepted: {', '.join(SUFFIXES)}"
        return [{"path": str(folder), "ok": False, "problem_count": 1, "problems": [problem], "notes": []}]
    files = (folder / Path(file).relative_to(f"{DATA}/{dataset.name}") for file in dataset.data_files)
    return [check_data(check_as(reading, file, data)) for file in files]


def discard_stale(root: Path) -> None:
    """Remove what uploads and deletions left whose process was killed: nothing in it changed for ``STALE`` seconds."""
    limit = time.time() - STALE
    for folder in root.glob(f"{STAGING}*"):
        with suppress(FileNotFoundError):  # an upload or a deletion that ends meanwhile
            if max(path.lstat().st_mtime for path in (folder, *folder.rglob("*"))) < limit:
                shutil.rmtree(folder, ignore_errors=True)


async def _receive(
    file: IO[bytes], path: str, size: int, announced: FileDigest | None, content: AsyncIterator[bytes]
) -> None:
    """Write the content, which must be what was announced."""
    digest, arrived = hashlib.sha256(), 0
    async for block in content:
        arrived += len(block)
        if arrived > size:
            raise UploadRefused(f"{path}: has more than the announced {size:,} bytes; send the file again")
        await asyncio.to_thread(_write, file, digest, block)
    if arrived < size:
        raise UploadRefused(f"{path}: only {arrived:,} of {size:,} bytes arrived; send the file again")
    if announced and announced.sha256 != digest.hexdigest():
        raise UploadRefused(f"{path}: its SHA-256 is not {announced.sha256}, as announced; send the file again")


def _write(file: IO[bytes], digest: hashlib._Hash, block: bytes) -> None:
    digest.update(block)
    view = memoryview(block)
    while view:
        view = view[file.write(view) :]


def _holds(folder: Path, file: FileDigest) -> int | None:
    """The inode of the folder's file with this content; None if it has none."""
    path = folder / file.path
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size:
            return None
        with path.open("rb") as content:
            same = hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
            return os.fstat(content.fileno()).st_ino if same else None
    except NotADirectoryError:
        return None


def _identities(folder: Path) -> dict[str, int]:
    """Every file of a folder, hidden ones and links too, with its inode."""
    inside = sorted(folder.rglob("*"))
    return {
        path.relative_to(folder).as_posix(): path.lstat().st_ino
        for path in inside
        if path.is_symlink() or not path.is_dir()
    }


def _keep(old: Path, new: Path, path: str) -> None:
    """Link a file of the old folder into the new one, unless the upload has it too."""
    try:
        new.parent.mkdir(parents=True, exist_ok=True)
        os.link(old, new, follow_symlinks=False)
    except (FileExistsError, NotADirectoryError) as taken:
        if not new.is_file():
            raise Conflict(
                f"{path}: the name is that of a file and of a folder, one of them stored and one uploaded; rename one"
            ) from taken
    except OSError as failed:
        if failed.errno not in _NO_LINKS:
            raise
        shutil.copy2(old, new, follow_symlinks=False)
