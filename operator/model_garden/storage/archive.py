"""A folder as a tar stream (POSIX pax), file by file in blocks, so that memory does not grow with its size.

The last member, ``SHA256SUMS``, has the digest of every file as it was sent: ``sha256sum -c SHA256SUMS``.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path

from model_garden.storage.interface import StorageFailed
from model_garden.storage.listing import Found

BLOCK = 1024 * 1024
SUMS = "SHA256SUMS"


def tar_blocks(entry: Path, files: list[Found]) -> Iterator[bytes]:
    """The stream.

    Args:
        entry: a folder, or one file; its name is the folder in the archive.
        files: the files of the folder, or the file alone (see ``files_of_entry``).

    Raises:
        StorageFailed: a file has another size than listed: it is being written.
        OSError: a file cannot be read.
    """
    folder, name = (entry, entry.name) if entry.is_dir() else (entry.parent, entry.stem)
    sums = []
    for found in files:
        if found.path == SUMS:  # of an earlier download
            continue
        yield _header(f"{name}/{found.path}", found.size, found.modified)
        digest = hashlib.sha256()
        for block in _content(folder / found.path, found):
            digest.update(block)
            yield block
        yield _padding(found.size)
        sums.append(f"{digest.hexdigest()}  {found.path}\n")
    listed = "".join(sums).encode()
    yield _header(f"{name}/{SUMS}", len(listed), max((one.modified for one in files), default=0))
    yield listed + _padding(len(listed)) + bytes(2 * tarfile.BLOCKSIZE)


def _content(path: Path, found: Found) -> Iterator[bytes]:
    left = found.size
    with path.open("rb", buffering=0) as file:
        while left:
            block = file.read(min(BLOCK, left))
            if not block:
                break
            left -= len(block)
            yield block
        if left or file.read(1):
            raise StorageFailed(f"{found.path} changed while it was sent; download it again when nothing writes it")


def _header(path: str, size: int, modified: float) -> bytes:
    member = tarfile.TarInfo(path)
    member.size, member.mtime, member.mode = size, int(modified), 0o644
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
