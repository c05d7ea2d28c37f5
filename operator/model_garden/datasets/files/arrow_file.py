"""Parquet files and data sets of the Hub: memory-mapped Arrow files in the cache of the ``datasets`` library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from model_garden.datasets.errors import DatasetError, RowError, shown
from model_garden.datasets.origin import Origin


class ArrowRows:
    """Rows of a data set of the ``datasets`` library, read as plain values; images stay encoded."""

    blank = 0

    def __init__(self, dataset: Any, name: str, base: Path | None) -> None:
        self._rows, self._name, self.base = dataset.with_format("arrow"), name, base

    def __len__(self) -> int:
        return len(self._rows)

    def origin(self, index: int) -> Origin:
        """File and number of a row."""
        return Origin(self._name, index + 1)

    def read(self, index: int) -> Any:
        """The value of the row; raises RowError if its text is not UTF-8.

        Keys without a value are left out: Arrow gives every object of a column the keys of all, such as the arguments
        of all tool calls.
        """
        try:
            return _without_nulls(self._rows[index].to_pylist()[0])
        except UnicodeDecodeError as error:
            raise RowError(f"text is not UTF-8 ({error.reason})", "write the file again as UTF-8") from None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(entry) for key, entry in value.items() if entry is not None}
    return [_without_nulls(entry) for entry in value] if isinstance(value, list) else value


def open_parquet(path: Path) -> ArrowRows:
    """The rows of a Parquet file; raises DatasetError where it cannot be read as one."""
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
    """Call ``load`` with the ``datasets`` library, without its progress bars, which would fill the log of a pod."""
    import datasets

    shown_before = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        return load(datasets)
    finally:
        if shown_before:
            datasets.enable_progress_bars()
