"""The declaration of a row format, and the reading of a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from model_garden.contract.methods import Method
from model_garden.datasets.errors import RowError, kind_of, shown
from model_garden.datasets.example import PLAIN, Details, ImageRef, Kind, Role
from model_garden.datasets.keys import REASONING, unread, untrained
from model_garden.datasets.locate import Locator
from model_garden.datasets.tool_calls import read_calls, read_spoken_calls
from model_garden.datasets.turns import Part, Slot, Turn
from model_garden.datasets.values import as_list, as_text, is_utf8

IMAGE_COLUMNS = ("image", "images")
ROLES: dict[str, Role] = {
    **{"system": "system", "developer": "system"},
    **{"user": "user", "human": "user"},
    **{"assistant": "assistant", "gpt": "assistant", "function_call": "assistant", "tool_call": "assistant"},
    **{"tool": "tool", "function": "tool", "observation": "tool", "tool_response": "tool"},
}
"""The names of roles in the formats of OpenAI, ShareGPT and ms-swift."""
SPOKEN_CALLS = ("function_call", "tool_call")
"""Roles of a turn whose content is a tool call."""
_OPENAI, _SHAREGPT = ("role", "content"), ("from", "value")
_CALLS = ("tool_calls", "function_call")


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

    def turns(self, column: str) -> list[Turn]:
        """The turns of a column that lists objects with a role and a content: text or a list of parts.

        Raises:
            RowError: the column is no such list, or a key in it would change what is trained.
        """
        if column not in self.fields:
            raise missing(column)
        turns: list[Turn] = []
        for index, entry in enumerate(as_list(self.fields[column], f'"{column}"')):
            if plain := _plain_turn(entry):
                turns.append(plain)
                continue
            turn, spoken = self._turn(entry, f"{column}[{index}]", column)
            if spoken and turns and turns[-1].role == "assistant":
                turns[-1] = _with_calls(turns[-1], turn)
            else:
                turns.append(turn)
        return turns

    def _turn(self, entry: Any, name: str, column: str) -> tuple[Turn, bool]:
        """A turn, and whether its role says that its content is a tool call."""
        given, keys = _entry(entry, name, _SHAREGPT if column == "conversations" else _OPENAI)
        role_key, content_key = keys
        role = _role(given[role_key], f"{name}.{role_key}")
        if given[role_key] in SPOKEN_CALLS:
            self._ignore(given, keys, name, column)
            calls = read_spoken_calls(given[content_key], f"{name}.{content_key}")
            return Turn(role, [], Details(tool_calls=calls)), True
        details, read = _details(given, name, role)
        self._ignore(given, (*keys, *read), name, column, answer=role == "assistant")
        if not details.tool_calls:
            _given(given, content_key, name, what="turn")
        content = given.get(content_key, "")
        empty = role in ("system", "tool") or bool(details.tool_calls)
        return Turn(role, self._content(content, f"{name}.{content_key}", role, empty=empty), details), False

    def _ignore(
        self, given: Mapping[str, Any], known: tuple[str, ...], name: str, column: str, *, answer: bool = True
    ) -> None:
        self.ignored += [f"{column}[].{key}" for key in unread(given, known, "turn", name, answer=answer)]

    def _content(self, content: Any, name: str, role: Role, *, empty: bool) -> list[Part]:
        if isinstance(content, str):
            return [as_text(content, name, empty=empty)]
        parts = [] if empty and content == [] else as_list(content, name)
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
        columns: for rows whose other columns are read too, returns all that reward functions get; none is ignored.
        label: for rows with a label, returns whether the answer is wanted; raises RowError.
        when: whether columns that another format has too are of this one. A method decides without it.
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
    columns: Callable[[Row], dict[str, Any]] | None = None
    when: Callable[[Mapping[str, Any]], bool] = lambda fields: True  # noqa: ARG005


def missing(column: str) -> RowError:
    """The error for a missing column."""
    return RowError(f'"{column}" is missing', f'add "{column}" or remove the row')


def _details(given: Mapping[str, Any], name: str, role: Role) -> tuple[Details, tuple[str, ...]]:
    """What a turn has besides its content, and the keys that were read."""
    if role == "assistant":
        excluding = untrained(given, name)
        reasoning, read = reasoning_of(given, f"{name}.")
        calls = [key for key in _CALLS if given.get(key)]
        if len(calls) > 1:
            raise RowError(f"{name} has both {' and '.join(calls)}", "keep tool_calls")
        found = read_calls(given[calls[0]], f"{name}.{calls[0]}") if calls else ()
        known = (*excluding, *read, *calls)
        return (Details(reasoning, found, not excluding) if known else PLAIN), known
    if role == "tool":
        called = {key: given[key] for key in ("name", "tool_call_id") if isinstance(given.get(key), str)}
        return Details(name=called.get("name"), call_id=called.get("tool_call_id")), tuple(called)
    return PLAIN, ()


def reasoning_of(given: Mapping[str, Any], prefix: str = "") -> tuple[str, tuple[str, ...]]:
    """The reasoning of an answer, and the keys that hold it: servers write the same text under two names.

    Raises:
        RowError: it is not text, or two keys have different texts.
    """
    texts = {key: as_text(given[key], f"{prefix}{key}") for key in REASONING if given.get(key) not in (None, "")}
    if len(set(texts.values())) > 1:
        raise RowError(f"{prefix}{' and '.join(texts)} have different reasoning", "keep one of them")
    return next(iter(texts.values()), ""), tuple(texts)


def _plain_turn(entry: Any) -> Turn | None:
    """A turn of a role and a text alone, as most are; None for any other, which is read key by key or refused."""
    if not isinstance(entry, dict) or len(entry) != 2:
        return None
    role_key, content_key = _OPENAI if "role" in entry else _SHAREGPT
    role, content = entry.get(role_key), entry.get(content_key)
    if not isinstance(role, str) or role not in ROLES or role in SPOKEN_CALLS or not isinstance(content, str):
        return None
    return Turn(ROLES[role], [content]) if content.strip() and is_utf8(content) else None


def _with_calls(answer: Turn, calls: Turn) -> Turn:
    """An answer and the turn of tool calls that follows it, as one turn."""
    joined = (*answer.details.tool_calls, *calls.details.tool_calls)
    return answer._replace(details=replace(answer.details, tool_calls=joined))


def _entry(entry: Any, name: str, keys: tuple[str, str]) -> tuple[dict[str, Any], tuple[str, str]]:
    """A turn without its null values, and its keys of role and content: ``keys``, or those of the other format."""
    if not isinstance(entry, dict):
        wanted = " and ".join(f'"{key}"' for key in keys)
        raise RowError(f"{name} is {kind_of(entry)} ({shown(entry)})", f"write each turn as an object with {wanted}")
    given = {key: value for key, value in entry.items() if value is not None}
    if keys[0] not in given:
        keys = next((other for other in (_OPENAI, _SHAREGPT) if other[0] in given), keys)
    _given(given, keys[0], name, what="turn")
    return given, keys


def _given(given: Mapping[str, Any], key: str, name: str, what: str = "part") -> Any:
    if key not in given:
        raise RowError(f'{name} has no "{key}"', f'add "{key}" or remove the {what}')
    return given[key]


def _role(value: Any, name: str) -> Role:
    if not isinstance(value, str) or value not in ROLES:
        raise RowError(f"{name} is {shown(value)}", f"use one of {', '.join(ROLES)}")
    return ROLES[value]
