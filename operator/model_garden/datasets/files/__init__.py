"""Rows of data files by number.

Of a text file only the position of every row is kept (8 bytes a row), and a row is parsed when it is read. Rows of
every kind of file can be pickled and shared with worker processes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from model_garden.datasets.errors import DatasetError
from model_garden.datasets.files.arrow_file import open_parquet
from model_garden.datasets.files.csv_file import open_csv
from model_garden.datasets.files.json_file import open_json, open_jsonl
from model_garden.datasets.files.rows import Rows

_OPENERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": open_jsonl,
    ".json": open_json,
    ".csv": open_csv,
    ".parquet": open_parquet,
}
SUFFIXES = tuple(_OPENERS)


def open_file(path: Path) -> Rows:
    """The rows of one file.

    Raises:
        DatasetError: its suffix is unknown, it cannot be read, or it is broken as a whole.
    """
    suffix = path.suffix.lower()
    if suffix not in _OPENERS:
        raise DatasetError([f"{path}: unknown kind of file; accepted: {', '.join(sorted(_OPENERS))}"])
    try:
        return _OPENERS[suffix](path)
    except OSError as error:
        raise DatasetError(
            [f"{path}: cannot be read: {error.strerror or error}; check the path and the permissions of the file"]
        ) from error
