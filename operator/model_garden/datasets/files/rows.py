"""Rows of a data file by number, without holding them in memory."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from model_garden.datasets.errors import DatasetError, RowError
from model_garden.datasets.origin import Origin


class Rows(Protocol):
    """The rows of one file."""

    @property
    def base(self) -> Path | None:
        """The folder that relative image paths start from; None for a data set of the Hub."""

    @property
    def blank(self) -> int:
        """Blank lines, which are not rows."""
        ...

    def __len__(self) -> int: ...

    def origin(self, index: int) -> Origin:
        """File and number of a row."""
        ...

    def read(self, index: int) -> Any:
        """The value of the row; raises RowError if it cannot be parsed."""
        ...


class TextRows:
    """Rows of a text file, each a span of bytes.

    Args:
        path: the file.
        starts: the byte where each row starts, and the byte where the last one ends.
        parse: converts the bytes of a row to its value; picklable; raises RowError.
        first: the number of the first row.
        blank: for each blank line, the index of the row that follows it.
    """

    def __init__(
        self,
        path: Path,
        starts: array[int],
        parse: Callable[[bytes], Any],
        first: int = 1,
        blank: array[int] | None = None,
    ):
        self.path = path
        self.base: Path | None = path.parent
        self._starts, self._parse, self._first = starts, parse, first
        self._blank = blank if blank is not None else array("Q")
        self._file: int | None = None
        self._version = _version(path.stat())

    @property
    def blank(self) -> int:
        """Blank lines, which are not rows."""
        return len(self._blank)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def origin(self, index: int) -> Origin:
        """File and number of a row; blank lines are counted."""
        return Origin(str(self.path), self._first + index + bisect_right(self._blank, index))

    def read(self, index: int) -> Any:
        """The value of the row; raises RowError if it cannot be parsed, or if the file changed since it was opened."""
        if self._file is None:
            self._file = os.open(self.path, os.O_RDONLY)
        if _version(os.fstat(self._file)) != self._version:  # the bytes of the row may be those of two others
            raise RowError("the file changed while it was read", "start again, and do not change a file that is in use")
        start = self._starts[index]
        return self._parse(os.pread(self._file, self._starts[index + 1] - start, start))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


def _version(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def text_start(head: bytes, path: Path) -> int:
    """The byte where the text of a file starts, after a UTF-8 byte order mark. UTF-16 and UTF-32 are refused."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DatasetError([f"{path}: is UTF-16 or UTF-32; save it as UTF-8 (iconv -t utf-8)"])
    return 3 if head[:3] == b"\xef\xbb\xbf" else 0
