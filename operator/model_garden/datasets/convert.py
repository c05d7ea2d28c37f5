"""Converts a row of any accepted format to an Example with all its turns, roles and images.

``formats`` reads the columns, ``keys`` ignores or refuses the others, and ``turns`` replaces marks with images. A row
may have more columns than its format: ``image`` or ``images`` with images, and ``system`` with a system prompt. None
is the same as a missing key, since Parquet writes None for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from model_garden.contract.methods import Method
from model_garden.datasets.errors import RowError, kind_of
from model_garden.datasets.example import Example, ImageRef, Kind, Message
from model_garden.datasets.formats import accepted, format_of
from model_garden.datasets.formats.base import IMAGE_COLUMNS, Format, Row, reasoning_of
from model_garden.datasets.keys import REASONING, Place, unread
from model_garden.datasets.locate import Locator
from model_garden.datasets.origin import Origin
from model_garden.datasets.pairs import check_pair
from model_garden.datasets.tool_calls import TOOLS, read_tools
from model_garden.datasets.turns import Slot, Turn, check_turns, excluded, place_pictures
from model_garden.datasets.values import as_list


@dataclass(frozen=True, slots=True)
class Converted:
    """The example of a row, its ignored keys (of columns, of turns as ``messages[].name``, of parts), and the shape of
    its format."""

    example: Example
    ignored: tuple[str, ...]
    format: str


def convert(row: Any, origin: Origin, locator: Locator, *, vision: bool, method: Method | None = "sft") -> Converted:
    """Convert one row.

    Args:
        row: the value in the file, usually a dict.
        origin: its file and number, kept in the example.
        locator: finds its images.
        vision: whether a vision-language model is trained. A row with images is refused for a text model.
        method: the training method, which decides the formats; None reads the rows of each.

    Raises:
        RowError: the row has no accepted format, a value in it is missing, empty or of a wrong type, or it has a key
            that is not read but would change what is trained.
    """
    if not isinstance(row, dict):
        readable = accepted(vision=vision, method=method)
        raise RowError(f"the row is {kind_of(row)}, not an object", f"accepted: {readable}")
    fields = {key: value for key, value in row.items() if value is not None}
    pictures = _pictures(fields, locator)
    if pictures and not vision:
        raise _pictures_for_text_model()
    found = format_of(fields, vision=vision, method=method)
    known = (*found.required, *found.optional, *IMAGE_COLUMNS, *TOOLS, *(() if found.lists_turns else REASONING))
    place: Place = "row of turns" if found.lists_turns else "row of columns"
    ignored = [] if found.columns else unread(fields, known, place, "the row")
    reading = Row(fields, locator, vision, pictures)
    kind, turns = found.read(reading)
    messages = _messages(kind, turns, reading, found)
    rejected = _messages(kind, found.rejected(reading), reading, found) if found.rejected else ()
    if rejected:
        check_pair(messages, rejected)
    label = found.label(reading) if found.label else None
    columns = found.columns(reading) if found.columns else None
    example = Example(kind, messages, origin, _tools(fields, kind), rejected, label, columns)
    return Converted(example, (*reading.ignored, *sorted(ignored)), found.shape)


def _messages(kind: Kind, turns: list[Turn], row: Row, found: Format) -> tuple[Message, ...]:
    """``turns`` with the system prompt, the images and the reasoning of the row's columns, checked.

    Of a row of preferences, the last answer alone carries loss.
    """
    turns = _with_system(row, kind, turns)
    if not found.lists_turns:
        turns = _with_reasoning(row.fields, kind, turns)
    if row.vision:
        turns = place_pictures(turns, row.pictures, in_front=not found.lists_turns)
    elif any(not isinstance(part, str) for turn in turns for part in turn.parts):
        raise _pictures_for_text_model()
    check_turns(turns)
    if "sft" not in found.methods:
        turns = [*map(excluded, turns[:-1]), turns[-1]]
    return tuple(
        Message(role, tuple(part for part in parts if not isinstance(part, Slot)), details)
        for role, parts, details in turns
    )


def has_pictures(row: Any) -> bool:
    """Whether the keys of a row show that it is for a vision-language model."""
    if not isinstance(row, dict):
        return False
    fields = {key: value for key, value in row.items() if value not in (None, [])}
    try:
        vision_only = "text" not in format_of(fields, vision=True, method=None).models
    except RowError:
        vision_only = False
    return vision_only or bool(fields.keys() & set(IMAGE_COLUMNS)) or any(map(_is_image_part, _nested(fields)))


def images_named(row: Any, locator: Locator) -> list[ImageRef]:
    """The images that a row names, even one that is broken otherwise; those that cannot be found are left out."""
    if not isinstance(row, dict):
        return []
    columns = [row.get(column) for column in IMAGE_COLUMNS]
    values = [one for column in columns for one in (column if isinstance(column, list) else [column])]
    values += [_source_of_part(part) for part in _nested(row) if _is_image_part(part)]
    found = []
    for value in values:
        with suppress(RowError):
            found.append(locator.locate(value, "the image"))
    return found


def _source_of_part(part: dict[str, Any]) -> Any:
    source = next((part[key] for key in ("image", "path", "url", "base64", "image_url") if part.get(key)), None)
    return source.get("url") if isinstance(source, dict) else source


def _nested(value: Any) -> Iterator[Any]:
    """Every object in the lists of a row."""
    for entry in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield entry
        yield from _nested(entry)


def _is_image_part(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") in ("image", "image_url")


def _pictures(fields: Mapping[str, Any], locator: Locator) -> list[ImageRef]:
    """The images of the column ``image``, which holds one or a list as LLaVA writes it, or of ``images``."""
    given = {column: fields[column] for column in IMAGE_COLUMNS if fields.get(column, []) != []}
    if len(given) > 1:
        raise RowError('the row has both "image" and "images"', 'put all images into "images" and remove "image"')
    for column, value in given.items():
        if column == "image" and not isinstance(value, list):
            return [locator.locate(value, '"image"')]
        values = as_list(value, f'"{column}"')
        return [locator.locate(one, f'"{column}"[{index}]') for index, one in enumerate(values)]
    return []


def _pictures_for_text_model() -> RowError:
    return RowError("the row has images, and the job trains a text model", "set isVision: true or remove them")


def _with_system(row: Row, kind: Kind, turns: list[Turn]) -> list[Turn]:
    """``turns`` after a turn with the text of the ``system`` column, if it has any."""
    system = row.text("system", empty=True)
    if not system.strip():
        return turns
    if kind != "chat":
        raise RowError('"system" needs turns, which this format does not have', 'write the row as "messages"')
    if turns[0].role == "system":
        raise RowError('the row has a "system" column and a system turn', "keep one of them")
    return [Turn("system", [system]), *turns]


def _with_reasoning(fields: Mapping[str, Any], kind: Kind, turns: list[Turn]) -> list[Turn]:
    """``turns`` with the reasoning of the row's column before its answer, if it has any."""
    reasoning, keys = reasoning_of(fields)
    if not reasoning:
        return turns
    if kind != "chat":
        raise RowError(
            f'the row has "{keys[0]}", and this format is rendered without a chat template, so the reasoning would be '
            "lost",
            'write the row as "messages", with "reasoning" in the turn of the answer, or remove it',
        )
    answer = turns[-1]
    if answer.details.reasoning:
        raise RowError(f'the row has "{keys[0]}", and its answer has reasoning too', "keep one of them")
    return [*turns[:-1], answer._replace(details=replace(answer.details, reasoning=reasoning))]


def _tools(fields: Mapping[str, Any], kind: Kind) -> tuple[dict[str, Any], ...]:
    """The definitions of tools in the row's columns."""
    given = [column for column in TOOLS if fields.get(column) not in (None, [], "", "[]")]
    if not given:
        return ()
    if len(given) > 1:
        raise RowError(f"the row has both {' and '.join(given)}", "keep tools")
    if kind != "chat":
        raise RowError(f'"{given[0]}" needs turns, which this format does not have', 'write the row as "messages"')
    return read_tools(fields[given[0]], f'"{given[0]}"')
