"""Examples by number: a row is converted when it is read, and its images are opened later."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

from model_garden.contract.addresses import HUB_DATASET
from model_garden.contract.methods import Method
from model_garden.datasets.columns import renamed, spelled
from model_garden.datasets.convert import Converted, convert, images_named
from model_garden.datasets.errors import DatasetError, RowError, UnknownFormat
from model_garden.datasets.example import Example, ImageRef
from model_garden.datasets.fetched_pictures import Pictures
from model_garden.datasets.files.rows import Rows
from model_garden.datasets.formats import columns_read
from model_garden.datasets.locate import Locator
from model_garden.datasets.mirror import Mirror
from model_garden.datasets.origin import Origin
from model_garden.datasets.source import open_source


def open_examples(
    path: str | Path,
    *,
    vision: bool,
    method: Method | None = "sft",
    split: str = "train",
    root: Path | None = None,
    mirror: Mirror | None = None,
    columns: Mapping[str, str] | None = None,
    pictures: Pictures | None = None,
) -> Examples:
    """Open a data set: find its rows, convert none and open no image.

    Args:
        path: a file (jsonl, json, csv, parquet), a folder of such files, or ``hf://datasets/ORG/NAME``.
        vision: whether a vision-language model is trained on it.
        method: the training method, which decides the formats of rows; None reads the rows of each.
        split: which split of a folder or of the Hub.
        root: the folder that the data files and their images may not leave, symbolic links followed (in a cluster,
            the workspace). None allows any path.
        mirror: the folder of remote storage that the files were fetched from, and its copy, in which ``path`` is.
        columns: ``columnMapping``.
        pictures: the images at addresses, with ``fetchPictures``.

    Raises:
        DatasetError: it is missing, unreadable, of an unknown kind, or has no rows.
    """
    try:
        files = open_source(path, split, root)
        examples = Examples(
            files, vision=vision, method=method, root=root, mirror=mirror, columns=columns, pictures=pictures
        )
        if not len(examples):
            raise DatasetError([f"{path}: has no rows; add at least one"])
    except DatasetError as error:
        raise DatasetError([mirror.named(problem) if mirror else problem for problem in error.problems]) from error
    return examples


class Examples(Sequence[Example]):
    """A data set as a sequence of examples, converted on access; it can be pickled for worker processes."""

    def __init__(
        self,
        files: Sequence[Rows],
        *,
        vision: bool,
        method: Method | None = "sft",
        root: Path | None = None,
        mirror: Mirror | None = None,
        columns: Mapping[str, str] | None = None,
        pictures: Pictures | None = None,
    ) -> None:
        self._columns, self._read = columns or {}, columns_read()
        self._files, self._vision, self._method, self._mirror = files, vision, method, mirror
        self._pictures = pictures
        self._locators = [Locator(rows.base, root, mirror, pictures) for rows in files]
        self._ends = list(accumulate(len(rows) for rows in files))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        """The example of a row.

        Raises:
            DatasetError: the row is broken, with file, row, reason and fix.
            IndexError: there is no such row.
        """
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        try:
            return self.convert(index).example
        except RowError as error:
            raise DatasetError([self.problem(index, error)]) from error

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))

    @property
    def blank_lines(self) -> int:
        """Blank lines, which are not rows."""
        return sum(rows.blank for rows in self._files)

    @property
    def files(self) -> set[str]:
        """The files that hold the rows, by their real paths; those that were fetched, by their addresses."""
        names = {rows.origin(0).file for rows in self._files if len(rows)}
        if self._mirror:
            return {self._mirror.address_of(name) for name in names}
        return {os.path.realpath(name) for name in names if not name.startswith(HUB_DATASET)}

    def origin(self, index: int) -> Origin:
        """File and number of a row, without reading it."""
        file, at = self._find(index)
        origin = self._files[file].origin(at)
        return Origin(self._mirror.address_of(origin.file), origin.row) if self._mirror else origin

    def problem(self, index: int, error: RowError) -> str:
        """What is wrong with a row, in one line; what was fetched is named by its address."""
        line = error.at(self.origin(index))
        line = self._pictures.named(line) if self._pictures else line
        return self._mirror.named(line) if self._mirror else line

    def convert(self, index: int) -> Converted:
        """A row's example and its ignored columns; raises RowError where ``[index]`` raises DatasetError."""
        file, at = self._find(index)
        row = renamed(self._files[file].read(at), self._columns, self._read)
        try:
            return convert(row, self.origin(index), self._locators[file], vision=self._vision, method=self._method)
        except RowError as error:
            if not self._columns:
                raise
            raise spelled(error, self._columns) from error

    def read(self, index: int) -> Any:
        """The value of a row as it is in the file; raises RowError if it cannot be parsed."""
        file, at = self._find(index)
        return self._files[file].read(at)

    def suggested_columns(self, index: int) -> dict[str, str]:
        """The ``columnMapping`` with which a row of no known format is read; empty if there is none."""
        if self._columns:
            return {}
        try:
            self.convert(index)
        except UnknownFormat as unknown:
            mapped = Examples(
                self._files,
                vision=self._vision,
                method=self._method,
                columns=unknown.columns,
                pictures=self._pictures,
            )
            with suppress(RowError):
                mapped.convert(index)
                return unknown.columns
        except RowError:
            pass
        return {}

    def addresses(self, rows: Iterable[int] | None = None) -> set[str]:
        """The addresses of images that are to be fetched, of some rows or all. A check reports broken rows."""
        found: set[str] = set()
        for index in range(len(self)) if rows is None else rows:
            with suppress(RowError):
                images = self.convert(index).example.images
                found.update(image.source for image in images if isinstance(image.source, str))
        return found

    def images_named(self, index: int) -> list[ImageRef]:
        """The images that a row names and that can be found, even if the row is broken."""
        try:
            row = renamed(self.read(index), self._columns, self._read)
            return images_named(row, self._locators[self._find(index)[0]])
        except RowError:
            return []

    def _find(self, index: int) -> tuple[int, int]:
        """The file that holds a row, and the row's index in it."""
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        file = bisect_right(self._ends, place)
        return file, place - (self._ends[file - 1] if file else 0)
