"""A digest of a data set: of its files, and of the images that its rows name.

A run resumes only with the data with which it started. The digest changes with the data and is far cheaper than a
check of every row. Modification times are not used, since a copy of a file has a new one.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from model_garden.datasets.errors import RowError
from model_garden.datasets.examples import Examples

WHOLE = 2**28
"""Data files of up to this many bytes are read completely, in under a second. Of larger ones, both ends are read."""
END = 2**20
PICTURE_END = 64
"""The last bytes of an image, which depend on its content: those of a PNG hold the checksum of its pixels."""
READERS = 16
"""Images read at the same time: on network storage each read waits for milliseconds."""


def digest_files(path: str) -> str:
    """A digest of the data files: names, sizes and content (see ``WHOLE``). A data set of the Hub has no files."""
    found = Path(path)
    files = sorted(file for file in found.rglob("*") if file.is_file()) if found.is_dir() else [found]
    result = hashlib.sha256()
    for file in files:
        if not file.is_file():
            continue
        size = file.stat().st_size
        result.update(f"{file.relative_to(found) if found.is_dir() else ''}\0{size}\0".encode())
        with file.open("rb") as content:
            while block := content.read(END):
                result.update(block)
                if size > WHOLE and content.tell() < size - END:
                    content.seek(size - END)
    return result.hexdigest()


def digest_pictures(examples: Examples) -> str:
    """A digest of the size and the last bytes of each image outside the data files, in order.

    Images inside the data files are part of ``digest_files``. The check of the rows reports images that
    cannot be read.
    """
    result = hashlib.sha256()
    paths = _paths(examples)
    with ThreadPoolExecutor(READERS) as pool:
        while some := list(islice(paths, 64 * READERS)):
            for identity in pool.map(_identity, some):
                result.update(identity)
    return result.hexdigest()


def _paths(examples: Examples) -> Iterator[Path]:
    for index in range(len(examples)):
        try:
            images = examples.convert(index).example.images
        except RowError:
            continue
        yield from (image.source for image in images if isinstance(image.source, Path))


def _identity(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would block
            return b"\0"
        with path.open("rb", buffering=0) as file:
            file.seek(-min(PICTURE_END, status.st_size), os.SEEK_END)
            return status.st_size.to_bytes(8, "big") + file.read()
    except (OSError, ValueError):
        return b"\0"
