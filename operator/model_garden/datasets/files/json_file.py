"""JSON lines, and JSON files that hold one array of rows."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model_garden.datasets.errors import DatasetError, RowError, shown
from model_garden.datasets.files.rows import Rows, TextRows, text_start


def parse_json(data: bytes) -> Any:
    """A JSON value. A key given twice or a NaN is refused: reading it would lose or invent content.

    Raises:
        RowError: it is not UTF-8 or not JSON.
    """
    text = _utf8(data)
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise RowError(
            f"not JSON: {error.msg} at character {error.pos + 1}",
            "fix the line; each row is one JSON object on one line",
        ) from None
    except RecursionError:
        raise RowError("not readable: nested too deeply", "flatten the row") from None
    except ValueError as error:
        raise RowError(f"not JSON: {error}", "fix the line") from None


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
    raise ValueError(f"{name} is no JSON number; write null or remove the key")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def open_jsonl(path: Path) -> TextRows:
    """The rows of a JSONL file, one object a line; its lines are found and not parsed."""
    starts, blank = array("Q"), array("Q")
    with path.open("rb") as file:
        position = text_start(file.read(4), path)
        file.seek(position)
        for line in file:
            if line.isspace():
                blank.append(len(starts))
            else:
                starts.append(position)
            position += len(line)
    starts.append(position)
    return TextRows(path, starts, parse_json, blank=blank)


def open_json(path: Path) -> Rows:
    """The elements of one JSON array. Its text is in memory during one scan; its rows never all are.

    A file that starts with an object is read as JSON lines, as the ``datasets`` library does.
    """
    data = path.read_bytes()
    try:
        text = data[text_start(data, path) :].decode("utf-8")
    except UnicodeDecodeError as error:
        raise DatasetError([f"{path}: not UTF-8: {error.reason} at byte {error.start + 1}; save it as UTF-8"]) from None
    if text.lstrip().startswith("{"):
        return open_jsonl(path)
    starts, offset, counted = array("Q"), len(data) - len(text.encode()), 0
    for at in _element_starts(text, path):
        offset += len(text[counted:at].encode())
        starts.append(offset)
        counted = at
    return TextRows(path, starts, parse_element)


def parse_element(data: bytes) -> Any:
    """An element of a JSON array, with the spaces and the comma or last bracket after it."""
    text = data.rstrip()
    return parse_json(text[:-1] if text[-1:] in (b",", b"]") else text)


_SPACE = re.compile(r"[ \t\r\n]*")


def _element_starts(text: str, path: Path) -> Iterator[int]:
    """Where each element of a JSON array starts, and last, where the array ends.

    Raises:
        DatasetError: ``text`` is not a JSON array, or part of it is not JSON.
    """
    plain = json.JSONDecoder()
    at = _SPACE.match(text, 0).end()  # type: ignore[union-attr]
    if text[at : at + 1] != "[":
        raise DatasetError(
            [f"{path}: is not a JSON array of rows; write [{{…}}, {{…}}], or one object a line in a .jsonl file"]
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
            raise DatasetError([f"{path} row {number}: not JSON: {reason} (line {line}); fix the file"]) from None
        at = _SPACE.match(text, end).end()  # type: ignore[union-attr]
        separator = text[at : at + 1]
        if separator not in (",", "]") or not separator:
            found = shown(separator) if separator else "the end of the file"
            raise DatasetError(
                [f"{path} row {number}: expected a comma or ] after the row, found {found}; fix the file"]
            )
    rest = _SPACE.match(text, at + 1).end()  # type: ignore[union-attr]
    if rest < len(text):
        raise DatasetError([f"{path}: {shown(text[rest:], 20)} after the end of the JSON array; remove it"])
    yield at + 1
