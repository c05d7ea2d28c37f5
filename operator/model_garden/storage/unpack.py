"""Unpacks the tar stream of ``archive`` into a new folder: whole and with the right digests, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from model_garden.services.errors import Conflict
from model_garden.storage.archive import SUMS
from model_garden.storage.interface import InvalidPath, StorageFailed
from model_garden.storage.paths import relative_path

BLOCK = 1024 * 1024


async def unpack(blocks: AsyncIterator[bytes], folder: Path, progress: Callable[[int], None]) -> int:
    """Write the files of the stream into ``folder``, which must not exist or be empty; the number of files.

    They are collected in a hidden folder beside it. What an interrupted download left there is removed first.

    Args:
        blocks: the stream; all files are below one folder, whose name is dropped.
        folder: the new folder.
        progress: called with the number of bytes of each piece of a file.

    Raises:
        Conflict: the folder has files already.
        StorageFailed: the stream is incomplete or a digest is wrong.
        OSError: it cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} exists already; name another folder, or remove it first")
    partial = folder.absolute().with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        count = await _through_pipe(blocks, partial, progress)
        partial.replace(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return count


async def _through_pipe(blocks: AsyncIterator[bytes], folder: Path, progress: Callable[[int], None]) -> int:
    """Unpack in a thread, since ``tarfile`` reads a file; the pipe between holds 64 KiB."""
    reading, writing = os.pipe()
    unpacking = asyncio.create_task(asyncio.to_thread(_unpack, reading, folder, progress))
    try:
        with os.fdopen(writing, "wb", buffering=0) as sink:
            async for block in blocks:
                await asyncio.to_thread(_write, sink, block)
    except BrokenPipeError:
        pass  # the thread has failed, and says why
    except BaseException:
        with suppress(Exception):
            await unpacking
        raise
    return await unpacking


def _write(sink: IO[bytes], block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[sink.write(view) :]


def _unpack(pipe: int, folder: Path, progress: Callable[[int], None]) -> int:
    digests: dict[str, str] = {}
    sums: str | None = None
    with os.fdopen(pipe, "rb") as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r|", errorlevel=2) as archive:
                for member in archive:
                    path = _path_of(member)
                    content = archive.extractfile(member)
                    assert content
                    if path == SUMS:
                        sums = content.read().decode("utf-8", "surrogateescape")
                    else:
                        digests[path] = _store(content, folder / path, progress)
            while stream.read(BLOCK):  # so that the sender sees no error at its end
                pass
        except tarfile.TarError as broken:
            raise StorageFailed(f"the download is incomplete ({broken}); download it again") from broken
    if sums is None:
        raise StorageFailed(f"the download is incomplete: it has no {SUMS}; download it again")
    _compare(sums, digests)
    return len(digests)


def _path_of(member: tarfile.TarInfo) -> str:
    """The path below the folder.

    Raises:
        StorageFailed: it is no plain file inside of one.
    """
    folder, slash, path = member.name.partition("/")
    if not (folder and slash and member.isreg()):
        raise StorageFailed(f"the download has {member.name!a}, which is no file in a folder; nothing was kept")
    try:
        return relative_path(path)
    except InvalidPath as wrong:
        raise StorageFailed(f"the download has a path that cannot be written: {wrong}; nothing was kept") from wrong


def _store(content: IO[bytes], target: Path, progress: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        while block := content.read(BLOCK):
            digest.update(block)
            file.write(block)
            progress(len(block))
    return digest.hexdigest()


def _compare(sums: str, digests: dict[str, str]) -> None:
    """Compare the digests of what was written with the list that was sent: ``DIGEST  PATH`` lines."""
    wanted = {path: digest for digest, path in (line.split("  ", 1) for line in sums.splitlines())}
    wrong = sorted(path for path in wanted.keys() | digests.keys() if wanted.get(path) != digests.get(path))
    if wrong:
        raise StorageFailed(f"{wrong[0]}: arrived with another SHA-256 than it was sent with; download it again")
