"""Rows of data files by number, without holding them in memory.

Of a text file only the place of every row is kept (8 bytes a row) and a row is parsed when it is asked for. Parquet and
data sets of the Hub are memory-mapped Arrow files, made by the ``datasets`` library in its cache. Both kinds can be
pickled and shared with worker processes.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from model_garden.datasets.errors import DatasetError, RowError, shown
from model_garden.datasets.example import Origin

csv.field_size_limit(2**31 - 1)  # the usual 128 KiB is less than a picture as a data URI


class Rows(Protocol):
    """The rows of one file."""

    @property
    def base(self) -> Path | None:
        """The folder that relative image paths start from; None for a data set of the Hub."""

    @property
    def blank(self) -> int:
        """Blank lines, which are no rows."""
        ...

    def __len__(self) -> int: ...

    def origin(self, index: int) -> Origin:
        """File and number of a row."""
        ...

    def read(self, index: int) -> Any:
        """What the row holds; raises RowError where it cannot be parsed."""
        ...


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
            [f"{path}: cannot be read: {error.strerror or error}; check the path and its rights"]
        ) from error


class TextRows:
    """Rows of a text file, each a span of bytes.

    Args:
        path: the file.
        starts: where each row starts, and where the last one ends.
        parse: a row's bytes -> what it holds; picklable, raises RowError.
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

    @property
    def blank(self) -> int:
        """Blank lines, which are no rows."""
        return len(self._blank)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def origin(self, index: int) -> Origin:
        """File and number of a row; blank lines count as an editor counts them."""
        return Origin(str(self.path), self._first + index + bisect_right(self._blank, index))

    def read(self, index: int) -> Any:
        """What the row holds; raises RowError where it cannot be parsed."""
        if self._file is None:
            self._file = os.open(self.path, os.O_RDONLY)
        start = self._starts[index]
        return self._parse(os.pread(self._file, self._starts[index + 1] - start, start))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


class ArrowRows:
    """Rows of a data set of the ``datasets`` library, read as plain values: pictures stay encoded."""

    blank = 0

    def __init__(self, dataset: Any, name: str, base: Path | None) -> None:
        self._rows, self._name, self.base = dataset.with_format("arrow"), name, base

    def __len__(self) -> int:
        return len(self._rows)

    def origin(self, index: int) -> Origin:
        """File and number of a row."""
        return Origin(self._name, index + 1)

    def read(self, index: int) -> Any:
        """What the row holds; raises RowError where its text is not UTF-8."""
        try:
            return self._rows[index].to_pylist()[0]
        except UnicodeDecodeError as error:
            raise RowError(f"text is not UTF-8 ({error.reason})", "write the file again as UTF-8") from None


def parse_json(data: bytes) -> Any:
    """A JSON value, strictly: a key given twice or a NaN would lose or invent content.

    Raises:
        RowError: it is not UTF-8 or not JSON.
    """
    text = _utf8(data)
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise RowError(
            f"not JSON: {error.msg} at character {error.pos + 1}",
            "mend the line; each row is one JSON object on one line",
        ) from None
    except RecursionError:
        raise RowError("not readable: nested too deeply", "flatten the row") from None
    except ValueError as error:
        raise RowError(f"not JSON: {error}", "mend the line") from None


def _utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise RowError(
            f"not UTF-8: {error.reason} at byte {error.start + 1}", "save the file as UTF-8 (iconv -t utf-8)"
        ) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {shown(twice)} is given twice")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number; write null or leave the key out")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _open_jsonl(path: Path) -> TextRows:
    starts, blank = array("Q"), array("Q")
    with path.open("rb") as file:
        position = _after_mark(file.read(4), path)
        file.seek(position)
        for line in file:
            if line.isspace():
                blank.append(len(starts))
            else:
                starts.append(position)
            position += len(line)
    starts.append(position)
    return TextRows(path, starts, parse_json, blank=blank)


def _after_mark(head: bytes, path: Path) -> int:
    """Bytes of a UTF-8 byte order mark at the start; UTF-16 and UTF-32 are refused."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DatasetError([f"{path}: is UTF-16 or UTF-32; save it as UTF-8 (iconv -t utf-8)"])
    return 3 if head[:3] == b"\xef\xbb\xbf" else 0


def _open_json(path: Path) -> Rows:
    """The elements of one JSON array. Its text is in memory while it is scanned once, never all of its rows.

    A file that starts with an object is read as JSON lines, as the ``datasets`` library does.
    """
    data = path.read_bytes()
    try:
        text = data[_after_mark(data, path) :].decode("utf-8")
    except UnicodeDecodeError as error:
        raise DatasetError([f"{path}: not UTF-8: {error.reason} at byte {error.start + 1}; save it as UTF-8"]) from None
    if text.lstrip().startswith("{"):
        return _open_jsonl(path)
    starts, offset, counted = array("Q"), len(data) - len(text.encode()), 0
    for at in _element_starts(text, path):
        offset += len(text[counted:at].encode())
        starts.append(offset)
        counted = at
    return TextRows(path, starts, parse_element)


def parse_element(data: bytes) -> Any:
    """An element of a JSON array, with what stands between it and the next: spaces and a comma or the last bracket."""
    text = data.rstrip()
    return parse_json(text[:-1] if text[-1:] in (b",", b"]") else text)


_SPACE = re.compile(r"[ \t\r\n]*")


def _element_starts(text: str, path: Path) -> Iterator[int]:
    """Where each element of a JSON array starts, and at last where the text ends.

    Raises:
        DatasetError: ``text`` is no JSON array, or is broken somewhere.
    """
    plain = json.JSONDecoder()
    at = _SPACE.match(text, 0).end()  # type: ignore[union-attr]
    if text[at : at + 1] != "[":
        raise DatasetError(
            [f"{path}: is no JSON array of rows; write [{{…}}, {{…}}], or one object a line in a .jsonl file"]
        )
    number, separator = 0, "["
    while separator != "]":
        at = _SPACE.match(text, at + 1).end()  # type: ignore[union-attr]
        if number == 0 and text[at : at + 1] == "]":
            break
        number += 1
        yield at
        try:
            _, end = plain.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            line = text.count("\n", 0, getattr(error, "pos", at)) + 1
            raise DatasetError([f"{path} row {number}: not JSON: {reason} (line {line}); mend the file"]) from None
        at = _SPACE.match(text, end).end()  # type: ignore[union-attr]
        separator = text[at : at + 1]
        if separator not in (",", "]") or not separator:
            found = shown(separator) if separator else "the end of the file"
            raise DatasetError([f"{path} row {number}: {found} after it, not a comma or ]; mend the file"])
    rest = _SPACE.match(text, at + 1).end()  # type: ignore[union-attr]
    if rest < len(text):
        raise DatasetError([f"{path}: {shown(text[rest:], 20)} after the end of the JSON array; remove it"])
    yield at + 1


def _open_csv(path: Path) -> TextRows:
    """Records of a CSV file with a header line; numbered as a spreadsheet does, so that the first one is row 2."""
    starts, blank = array("Q"), array("Q")
    lengths: list[int] = []  # bytes of the lines that make up one record
    with path.open("rb") as file:
        mark = _after_mark(file.read(4), path)
        file.seek(mark)
        reader = csv.reader(_counted(file, lengths, path), strict=True)
        header, position = _csv_header(reader, path), mark + sum(lengths)
        lengths.clear()
        try:
            for record in reader:
                if record:
                    starts.append(position)
                else:
                    blank.append(len(starts))
                position += sum(lengths)
                lengths.clear()
        except csv.Error as error:
            number = len(starts) + len(blank) + 2
            raise DatasetError(
                [f"{path} row {number}: not CSV: {error}; quote cells and double their quotes"]
            ) from None
    starts.append(position)
    return TextRows(path, starts, CsvRecord(header), first=2, blank=blank)


def _counted(file: Iterable[bytes], lengths: list[int], path: Path) -> Iterator[str]:
    for line in file:
        lengths.append(len(line))
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DatasetError([f"{path}: not UTF-8: {error.reason} in {shown(line, 60)}; save it as UTF-8"]) from None


def _csv_header(reader: Iterator[list[str]], path: Path) -> list[str]:
    header = [name.strip() for name in next(reader, [])]
    twice = {name for name in header if header.count(name) > 1}
    if twice or not all(header):
        raise DatasetError([f"{path} row 1: a column has no name or two have the same ({header}); name each once"])
    return header


class CsvRecord:
    """Parses one record by the names of the header; an empty cell is None."""

    def __init__(self, header: list[str]) -> None:
        self.header = header

    def __call__(self, data: bytes) -> dict[str, str | None]:
        """A record's bytes -> its cells by name; raises RowError where their number is not the header's."""
        record = next(csv.reader(io.StringIO(data.decode("utf-8"), newline=""), strict=True))
        if len(record) != len(self.header):
            raise RowError(
                f"{len(record)} cells, and the header names {len(self.header)}",
                "quote cells that hold commas or quotes",
            )
        return {name: cell or None for name, cell in zip(self.header, record, strict=True)}


def _open_parquet(path: Path) -> ArrowRows:
    import pyarrow
    from pyarrow import parquet

    try:
        parquet.read_schema(path)
        dataset = quietly(lambda library: library.Dataset.from_parquet(str(path)))
    except (pyarrow.ArrowException, *_builder_errors()) as error:
        cause = error.__cause__ or error
        raise DatasetError(
            [f"{path}: not readable as Parquet: {shown(str(cause), 200)}; write the file again"]
        ) from error
    return ArrowRows(dataset, str(path), path.parent)


def _builder_errors() -> tuple[type[Exception], ...]:
    from datasets.exceptions import DatasetsError

    return (DatasetsError,)


def quietly(load: Callable[[Any], Any]) -> Any:
    """Call ``load`` with the ``datasets`` library, its progress bars off: they would fill a pod's log."""
    import datasets

    shown_before = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        return load(datasets)
    finally:
        if shown_before:
            datasets.enable_progress_bars()


_OPENERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _open_jsonl,
    ".json": _open_json,
    ".csv": _open_csv,
    ".parquet": _open_parquet,
}
