"""CSV files with a header line."""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

from model_garden.datasets.errors import DatasetError, RowError, shown
from model_garden.datasets.files.rows import TextRows, text_start

csv.field_size_limit(2**31 - 1)  # the usual 128 KiB is less than an image as a data URI


def open_csv(path: Path) -> TextRows:
    """Records of a CSV file with a header line; numbered as a spreadsheet numbers them: the first is row 2."""
    starts, blank = array("Q"), array("Q")
    lengths: list[int] = []  # bytes of the lines that make up one record
    with path.open("rb") as file:
        mark = text_start(file.read(4), path)
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
        raise DatasetError(
            [
                f"{path} row 1: a column has no name, or two columns have the same name ({header}); give each column a "
                "unique name"
            ]
        )
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
                f"the row has {len(record)} cells, but the header has {len(self.header)} columns",
                "quote cells that contain commas or quotes",
            )
        return {name: cell or None for name, cell in zip(self.header, record, strict=True)}
