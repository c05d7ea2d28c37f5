"""The declaration of a row format, and the reading of a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from model_garden.contract.methods import Method
from model_garden.datasets.errors import RowError, kind_of, shown
from model_garden.datasets.example import ImageRef, Kind, Role
from model_garden.datasets.keys import unread
from model_garden.datasets.locate import Locator
from model_garden.datasets.turns import Part, Slot, Turn

IMAGE_COLUMNS = ("image", "images")
ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


@dataclass(slots=True)
class Row:
    """A row while a format reads it.

    Args:
        fields: its columns, without those that are null.
        locator: finds its images.
        vision: whether a vision-language model is trained.
        pictures: the images of the image column.
        ignored: receives the keys of turns and parts that are not read, such as ``messages[].name``.
    """

    fields: Mapping[str, Any]
    locator: Locator
    vision: bool
    pictures: list[ImageRef]
    ignored: list[str] = field(default_factory=list)

    def text(self, column: str, *, empty: bool = False) -> str:
        """A column's text; ``empty`` allows one that is empty or absent.

        Raises:
            RowError: it is missing, empty or not text.
        """
        if column not in self.fields and empty:
            return ""
        if column not in self.fields:
            raise missing(column)
        return as_text(self.fields[column], f'"{column}"', empty=empty)

    def turns(
        self, column: str, role_key: str = "role", content_key: str = "content", roles: Mapping[str, Role] = ROLES
    ) -> list[Turn]:
        """The turns of a column that lists objects with a role and a content: text or a list of parts.

        Raises:
            RowError: the column is no such list, or a key in it would change what is trained.
        """
        if column not in self.fields:
            raise missing(column)
        turns: list[Turn] = []
        for index, entry in enumerate(as_list(self.fields[column], f'"{column}"')):
            name = f"{column}[{index}]"
            given = _entry(entry, name, (role_key, content_key))
            role = _role(given[role_key], f"{name}.{role_key}", roles)
            ignored = unread(given, (role_key, content_key), "turn", name, answer=role == "assistant")
            self.ignored += [f"{column}[].{key}" for key in ignored]
            turns.append((role, self._content(given[content_key], f"{name}.{content_key}", role)))
        return turns

    def _content(self, content: Any, name: str, role: Role) -> list[Part]:
        if isinstance(content, str):
            return [as_text(content, name, empty=role == "system")]
        parts = as_list(content, name)
        return [self._part(part, f"{name}[{at}]", answer=role == "assistant") for at, part in enumerate(parts)]

    def _part(self, part: Any, name: str, *, answer: bool) -> Part:
        if not isinstance(part, dict):
            raise RowError(
                f"{name} is {kind_of(part)} ({shown(part)})", 'write each part as {"type": "text", "text": …}'
            )
        given = {key: value for key, value in part.items() if value is not None}
        known = ["type"]
        match given.get("type"):
            case "text":
                known.append("text")
                found: Part = as_text(_given(given, "text", name), f"{name}.text", empty=True)
            case "image":
                known += [*_IMAGE_SOURCES, "index"]
                found = self._image(given, name)
            case "image_url":
                known.append("image_url")
                source = given.get("image_url")
                url = source.get("url") if isinstance(source, dict) else source
                found = self.locator.locate(url, f"{name}.image_url.url")
            case kind:
                raise RowError(f"{name}.type is {shown(kind)}", "use text, image or image_url")
        self.ignored += [f"content[].{key}" for key in unread(given, known, "part", name, answer=answer)]
        return found

    def _image(self, given: Mapping[str, Any], name: str) -> Part:
        sources = [key for key in _IMAGE_SOURCES if key in given]
        if len(sources) > 1:
            raise RowError(f"{name} has several keys for one image ({' and '.join(sources)})", "keep one of them")
        return self.locator.locate(given[sources[0]], f"{name}.{sources[0]}") if sources else Slot(given.get("index"))


_IMAGE_SOURCES = ("image", "path", "url", "base64")


@dataclass(frozen=True)
class Format:
    """A row format. Every ``FORMAT`` of a module in this package is accepted.

    Args:
        required: the columns that a row of this format must have.
        optional: the columns that it may have besides ``image`` or ``images``.
        shape: a row of this format, for messages and the documentation.
        about: a description for the documentation, in Markdown.
        models: the kinds of models that it can train.
        read: returns the kind of the example and its turns; raises RowError.
        lists_turns: whether one column lists the turns. Such rows must mark the place of each image; in others,
            images without a mark are put at the start of the first user turn.
        methods: the training methods that read such rows.
        rejected: for rows of preferences, returns the turns with the rejected answer; raises RowError.
        label: for rows with a label, returns whether the answer is wanted; raises RowError.
    """

    required: tuple[str, ...]
    shape: str
    about: str
    read: Callable[[Row], tuple[Kind, list[Turn]]]
    optional: tuple[str, ...] = ("system",)
    models: tuple[Literal["text", "vision"], ...] = ("text", "vision")
    lists_turns: bool = False
    methods: tuple[Method, ...] = ("sft",)
    rejected: Callable[[Row], list[Turn]] | None = None
    label: Callable[[Row], bool] | None = None


def missing(column: str) -> RowError:
    """The error for a missing column."""
    return RowError(f'"{column}" is missing', f'add "{column}" or remove the row')


def as_text(value: Any, name: str, *, empty: bool = False) -> str:
    """``value`` as text.

    Raises:
        RowError: it is not text, cannot be encoded as UTF-8, or is blank and ``empty`` is False.
    """
    if not isinstance(value, str):
        raise RowError(f"{name} is {kind_of(value)} ({shown(value)}), not text", "write it as text, in quotes")
    if not empty and not value.strip():
        raise RowError(f"{name} is empty", "fill it in or remove the row")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RowError(
            f"{name} contains an invalid character ({value[error.start]!a}, an unpaired surrogate, at position "
            f"{error.start})",
            "save the text as UTF-8",
        ) from None
    return value


def as_list(value: Any, name: str) -> list[Any]:
    """``value`` as a list; raises RowError if it is not a list or is empty."""
    if not isinstance(value, list):
        raise RowError(f"{name} is {kind_of(value)} ({shown(value)}), not a list", f"write {name} as a list […]")
    if not value:
        raise RowError(f"{name} is an empty list", "fill it in or remove the row")
    return value


def _entry(entry: Any, name: str, keys: tuple[str, str]) -> dict[str, Any]:
    if not isinstance(entry, dict):
        wanted = " and ".join(f'"{key}"' for key in keys)
        raise RowError(f"{name} is {kind_of(entry)} ({shown(entry)})", f"write each turn as an object with {wanted}")
    given = {key: value for key, value in entry.items() if value is not None}
    for key in keys:
        _given(given, key, name, what="turn")
    return given


def _given(given: Mapping[str, Any], key: str, name: str, what: str = "part") -> Any:
    if key not in given:
        raise RowError(f'{name} has no "{key}"', f'add "{key}" or remove the {what}')
    return given[key]


def _role(value: Any, name: str, roles: Mapping[str, Role]) -> Role:
    if not isinstance(value, str) or value not in roles:
        raise RowError(f"{name} is {shown(value)}", f"use one of {', '.join(roles)}")
    return roles[value]
