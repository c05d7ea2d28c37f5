"""Collects the files that a data set consists of: its data files, and exactly the images that their rows name.

The result is complete in itself: each path is relative and inside one folder. A row that names an image in another way
(an absolute path, a file URI, a path outside the data set's folder) is rewritten in a copy of its data file.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from collections.abc import Collection as Names
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from model_garden.contract.methods import Method
from model_garden.datasets.columns import renamed
from model_garden.datasets.convert import convert
from model_garden.datasets.errors import DatasetError, RowError
from model_garden.datasets.fetched_pictures import Pictures
from model_garden.datasets.files import SUFFIXES, open_file
from model_garden.datasets.files.rows import Rows
from model_garden.datasets.formats import columns_read
from model_garden.datasets.locate import Locator

IMAGES = "images"
"""The folder for images from elsewhere."""
_IMAGE_KEYS = ("image", "images", "path", "url", "base64", "image_url")


@dataclass
class Collection:
    """The files of a data set.

    Attributes:
        files: by relative path, the file of this machine with the content.
        rewritten: by the relative path of each rewritten data file, the number of its rows that changed.
    """

    files: dict[str, Path] = field(default_factory=dict)
    rewritten: dict[str, int] = field(default_factory=dict)


def data_files(path: Path) -> list[Path]:
    """The data files of a file or folder, whatever their split, by name.

    Raises:
        DatasetError: there are none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DatasetError([f"{path}: no such file or folder; relative paths start from {Path.cwd()}"])
    found = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file()
        and file.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
    if not found:
        raise DatasetError([f"{path}: has no data file; accepted: {', '.join(SUFFIXES)}"])
    return found


def collect(
    path: Path,
    *,
    vision: bool,
    copies: Path,
    method: Method | None = None,
    columns: Mapping[str, str] | None = None,
    pictures: Pictures | None = None,
) -> Collection:
    """The files of a valid data set.

    Args:
        path: a data file, or a folder with data files.
        vision: whether the rows are read for a vision-language model.
        copies: an empty folder for the data files that must be rewritten.
        method: the training method; None reads the rows of each.
        columns: ``columnMapping``.
        pictures: the images at addresses, which are not collected.

    Raises:
        DatasetError: a row is broken, or a data file cannot be rewritten.
    """
    folder = path.parent if path.is_file() else path
    collector = _Collector(folder, vision, copies, method, columns or {}, pictures)
    for file in data_files(path):
        collector.add(file)
    return collector.found


@dataclass(frozen=True)
class _Recorder(Locator):
    """A locator that keeps the file of each path that the rows name."""

    named: dict[str, Path] = field(default_factory=dict)

    def _path(self, value: str, name: str) -> Path:
        found = super()._path(value, name)
        self.named[value] = found
        return found


class _Collector:
    def __init__(
        self,
        folder: Path,
        vision: bool,
        copies: Path,
        method: Method | None,
        columns: Mapping[str, str],
        pictures: Pictures | None,
    ) -> None:
        self._folder, self._vision, self._copies = folder, vision, copies
        self._method, self._columns, self._pictures = method, columns, pictures
        self._image_keys = {*_IMAGE_KEYS, *(columns[key] for key in ("image", "images") if key in columns)}
        self.found = Collection()

    def add(self, file: Path) -> None:
        """Take a data file and the images of its rows."""
        name = file.relative_to(self._folder).as_posix()
        rows, recorder = open_file(file), _Recorder(file.parent, pictures=self._pictures)
        for index in range(len(rows)):
            convert(self._read(rows, index), rows.origin(index), recorder, vision=self._vision, method=self._method)
        here = posixpath.dirname(name)
        changes = {value: self._take(value, source, here) for value, source in recorder.named.items()}
        changes = {value: path for value, path in changes.items() if value != path}
        if changes:
            self._rewrite(rows, file, name, changes)
        else:
            self.found.files[name] = file

    def _read(self, rows: Rows, index: int) -> Any:
        try:
            return renamed(rows.read(index), self._columns, columns_read())
        except RowError as error:
            raise DatasetError([error.at(rows.origin(index))]) from error

    def _take(self, value: str, source: Path, here: str) -> str:
        """Add an image; returns how a row of a data file in the folder ``here`` must name it."""
        inside = os.path.relpath(source, self._folder)
        if any(part.startswith(".") for part in inside.split("/")):  # outside the folder, or hidden in it
            inside = self._name_for(source)
        self.found.files[inside] = source
        goes_up = ".." in value.split("/")
        if not goes_up and posixpath.normpath(posixpath.join(here, value)) == inside:
            return value
        return posixpath.relpath(inside, here or ".")

    def _name_for(self, source: Path) -> str:
        """A name in IMAGES, with a part of a digest where another image has the name already."""
        name = f"{IMAGES}/{source.name.lstrip('.')}"
        if self.found.files.get(name, source) == source and not (self._folder / name).exists():
            return name
        digest = hashlib.sha256(os.fsencode(source.absolute())).hexdigest()[:8]
        return f"{IMAGES}/{source.stem.lstrip('.')}-{digest}{source.suffix}"

    def _rewrite(self, rows: Rows, file: Path, name: str, changes: Mapping[str, str]) -> None:
        """Write the rows with other names of images as JSON lines, whatever the kind of the file."""
        if file.suffix.lower() == ".parquet":
            fix = "embed the images, or write the rows as JSON lines"
            problem = f"names images outside the folder ({next(iter(changes))}), and is not rewritten; {fix}"
            raise DatasetError([f"{file}: {problem}"])
        written = str(PurePosixPath(name).with_suffix(".jsonl"))
        if written != name and (self._folder / written).exists():
            raise DatasetError([f"{file}: its rewritten copy would be {written}, which exists; rename one of them"])
        copy = self._copies / written
        copy.parent.mkdir(parents=True, exist_ok=True)
        changed = 0
        with copy.open("w", encoding="utf-8") as output:
            for index in range(len(rows)):
                row = rows.read(index)
                replaced = _replaced(row, changes, self._image_keys)
                changed += replaced != row
                output.write(json.dumps(replaced, ensure_ascii=False) + "\n")
        self.found.files[written] = copy
        self.found.rewritten[written] = changed


def _replaced(value: Any, changes: Mapping[str, str], keys: Names[str], key: str = "") -> Any:
    """A row with the changed names of images, under the keys that hold images alone."""
    if isinstance(value, dict):
        return {name: _replaced(entry, changes, keys, name) for name, entry in value.items()}
    if isinstance(value, list):
        return [_replaced(entry, changes, keys, key) for entry in value]
    return changes.get(value, value) if isinstance(value, str) and key in keys else value
