"""One row of any accepted format -> one Example, with all its turns, roles and images; for validate and train alike.

A format is chosen by the keys of the row, in this order::

    {"messages": [{"role", "content"}, …]}              OpenAI's; content is text or a list of parts
    {"conversations": [{"from", "value"}, …]}           ShareGPT's; roles human, gpt, system
    {"text", "image" | "images", "response"}            a question on pictures
    {"prompt", "completion"}                            two texts, or two lists of messages
    {"instruction", "input", "output"}                  Alpaca's; input may be missing
    {"text"}                                            plain text, for text models

Beside each but the plain ones, ``image`` or ``images`` holds pictures and ``system`` a system prompt. ``<image>`` in a
text, or a part ``{"type": "image"}`` without a source, marks where a picture of that column stands; a question, prompt
or instruction without a mark has its pictures in front. What a row holds beyond its format is either named as ignored
or, where content would be lost, an error. None counts as absent: Parquet fills missing keys with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from model_garden.datasets.errors import RowError, kind_of, shown
from model_garden.datasets.example import Example, ImageRef, Message, Role
from model_garden.datasets.locate import Locator
from model_garden.datasets.origin import Origin

ACCEPTED_TEXT = (
    '{"messages": […]}, {"conversations": […]}, {"prompt", "completion"}, {"instruction", "input", "output"} '
    'or {"text"}'
)
ACCEPTED_VISION = (
    '{"text", "image", "response"}, {"text", "images": […], "response"}, {"messages": […]} with image parts, '
    '{"conversations": […]} with "image" or "images", or {"prompt", "completion", "images"}'
)
MARK = "<image>"

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_SHAREGPT_ROLES: dict[str, Role] = _ROLES | {"human": "user", "gpt": "assistant"}
_CONTENT = ("image", "images", "video", "videos", "audio", "audios", "system", "tools", "history")
"""Columns that are content wherever they stand: left over, they are an error."""
_ANSWERS = ("response", "completion", "output")
"""Left over beside a format that has its own answers in one column, they are an error too."""
_MESSAGE_CONTENT = ("tool_calls", "function_call", "reasoning_content", "thinking", "weight", "audio", "train")
"""Keys of a message that change what is trained on, and that no turn of an Example can hold."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A row's example, and the columns that the example does not hold."""

    example: Example
    ignored: tuple[str, ...]


class _Slot:
    """Where a picture of the image column stands."""


_SLOT = _Slot()
Part = str | ImageRef | _Slot
Turn = tuple[Role, list[Part]]


@dataclass(slots=True)
class _Row:
    """A row while it is read: what is taken leaves ``fields``, so that what is left is known."""

    fields: dict[str, Any]
    locator: Locator
    vision: bool
    ignored: list[str]

    def text(self, name: str, *, empty: bool = False) -> str:
        if name not in self.fields:
            raise RowError(f'"{name}" is missing', f'add "{name}" or remove the row')
        return _text(self.fields.pop(name), f'"{name}"', empty=empty)


def convert(row: Any, origin: Origin, locator: Locator, *, vision: bool) -> Converted:
    """Convert one row.

    Args:
        row: what the file holds, normally a dict.
        origin: its file and number, kept in the example.
        locator: finds its pictures.
        vision: whether a vision-language model is trained; a text job takes no pictures.

    Raises:
        RowError: the row is of no accepted format, or something in it is missing, empty, of a wrong type or unclear.
    """
    if not isinstance(row, dict):
        raise RowError(f"the row is {kind_of(row)}, not an object", f"accepted: {_accepted(vision)}")
    fields = {key: value for key, value in row.items() if value is not None}
    reading = _Row(fields, locator, vision, [])
    pictures = _pictures(reading)
    if pictures and not vision:
        raise RowError("the row has pictures, and the job trains a text model", "set isVision: true or remove them")
    read = next((read for keys, read in _FORMATS if any(key in fields for key in keys)), None)
    if read is None:
        keys = ", ".join(f'"{key}"' for key in row) or "none"
        raise RowError(f"the row is of no known format (its keys: {keys})", f"accepted: {_accepted(vision)}")
    kind, turns = read(reading, bool(pictures))
    turns = _with_system(reading, kind, turns)
    turns = _placed(turns, pictures, in_front=read not in _CHATS, vision=vision)
    _check_turns(turns, vision)
    _refuse_lost(fields, chat=read in _CHATS)
    messages = tuple(Message(role, _joined(parts)) for role, parts in turns)
    return Converted(Example(kind, messages, origin), (*reading.ignored, *sorted(map(str, fields))))


def _accepted(vision: bool) -> str:
    return ACCEPTED_VISION if vision else ACCEPTED_TEXT


def _text(value: Any, name: str, *, empty: bool = False) -> str:
    if not isinstance(value, str):
        raise RowError(f"{name} is {kind_of(value)} ({shown(value)}), not text", "write it as text, in quotes")
    if not empty and not value.strip():
        raise RowError(f"{name} is empty", "fill it in or remove the row")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RowError(
            f"{name} holds half a character ({value[error.start]!a} at position {error.start})",
            "write the text again as UTF-8",
        ) from None
    return value


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise RowError(f"{name} is {kind_of(value)} ({shown(value)}), not a list", f"write {name} as a list […]")
    if not value:
        raise RowError(f"{name} is an empty list", "fill it in or remove the row")
    return value


def _pictures(row: _Row) -> list[ImageRef]:
    """The pictures of the ``image`` or ``images`` column; an empty list of images is none."""
    one, several = row.fields.pop("image", None), row.fields.pop("images", None)
    if one is not None and several:
        raise RowError('the row has both "image" and "images"', 'put all pictures into "images" and remove "image"')
    if several is not None and several != []:
        values = _list(several, '"images"')
        return [row.locator.locate(value, f'"images"[{index}]') for index, value in enumerate(values)]
    if isinstance(one, list):
        raise RowError('"image" is a list', 'call it "images", or give one picture')
    return [] if one is None else [row.locator.locate(one, '"image"')]


def _messages(row: _Row, _pictured: bool) -> tuple[Any, list[Turn]]:
    return "chat", _turns(row, row.fields.pop("messages"), "messages")


def _conversations(row: _Row, _pictured: bool) -> tuple[Any, list[Turn]]:
    turns: list[Turn] = []
    for index, entry in enumerate(_list(row.fields.pop("conversations"), '"conversations"')):
        name = f"conversations[{index}]"
        given = _entry(row, entry, name, "conversations", ("from", "value"))
        role = _role(given["from"], f"{name}.from", _SHAREGPT_ROLES)
        turns.append((role, [_text(given["value"], f"{name}.value", empty=role == "system")]))
    return "chat", turns


def _question(row: _Row, pictured: bool) -> tuple[Any, list[Turn]]:
    if not row.vision:
        raise RowError(
            'the row has a "response", the answer of the vision format, and the job trains a text model',
            'set isVision: true, or call the columns "prompt" and "completion"',
        )
    question, answer = row.text("text"), row.text("response")
    if not pictured:
        raise RowError(
            '"image" is missing', 'add "image" or "images"; a row without a picture is written as "messages"'
        )
    return "chat", [("user", [question]), ("assistant", [answer])]


def _prompt_completion(row: _Row, _pictured: bool) -> tuple[Any, list[Turn]]:
    if isinstance(row.fields.get("prompt"), list) or isinstance(row.fields.get("completion"), list):
        return "chat", _prompt_and_completion_turns(row)
    prompt, completion = row.text("prompt"), row.text("completion")
    return "chat" if row.vision else "completion", [("user", [prompt]), ("assistant", [completion])]


def _prompt_and_completion_turns(row: _Row) -> list[Turn]:
    prompt, completion = (_turns(row, row.fields.pop(name, None), name) for name in ("prompt", "completion"))
    if any(role == "assistant" for role, _ in prompt):
        raise RowError(
            '"prompt" has assistant turns, which would be trained on as answers too',
            'write the row as "messages" if that is meant',
        )
    return prompt + completion


def _instruction(row: _Row, _pictured: bool) -> tuple[Any, list[Turn]]:
    instruction, answer = row.text("instruction"), row.text("output")
    extra = row.text("input", empty=True) if "input" in row.fields else ""
    prompt = f"{instruction}\n\n{extra}" if extra.strip() else instruction
    return "chat", [("user", [prompt]), ("assistant", [answer])]


def _plain(row: _Row, pictured: bool) -> tuple[Any, list[Turn]]:
    if row.vision:
        missing = [f'"{name}"' for name, there in (("image", pictured), ("response", False)) if not there]
        raise RowError(f'{" and ".join(missing)} missing beside "text"', f"accepted: {ACCEPTED_VISION}")
    return "text", [("assistant", [row.text("text")])]


Read = Callable[[_Row, bool], tuple[Any, list[Turn]]]
_FORMATS: tuple[tuple[tuple[str, ...], Read], ...] = (
    (("messages",), _messages),
    (("conversations",), _conversations),
    (("response",), _question),
    (("prompt", "completion"), _prompt_completion),
    (("instruction", "output"), _instruction),
    (("text",), _plain),
)
_CHATS = (_messages, _conversations)


def _turns(row: _Row, value: Any, column: str) -> list[Turn]:
    """The turns of a list of ``{"role", "content"}``."""
    turns: list[Turn] = []
    for index, entry in enumerate(_list(value, f'"{column}"')):
        name = f"{column}[{index}]"
        given = _entry(row, entry, name, column, ("role", "content"))
        role = _role(given["role"], f"{name}.role", _ROLES)
        content = given["content"]
        if isinstance(content, str):
            turns.append((role, [_text(content, f"{name}.content", empty=role == "system")]))
        else:
            parts = _list(content, f"{name}.content")
            turns.append((role, [_part(row, part, f"{name}.content[{at}]") for at, part in enumerate(parts)]))
    return turns


def _entry(row: _Row, entry: Any, name: str, column: str, keys: tuple[str, str]) -> dict[str, Any]:
    if not isinstance(entry, dict):
        wanted = " and ".join(f'"{key}"' for key in keys)
        raise RowError(f"{name} is {kind_of(entry)} ({shown(entry)})", f"write each turn as an object with {wanted}")
    given = {key: value for key, value in entry.items() if value is not None}
    for key in keys:
        if key not in given:
            raise RowError(f'{name} has no "{key}"', f'add "{key}" or remove the turn')
    for key in given:
        if key in _MESSAGE_CONTENT and given[key] not in ([], "", {}):
            raise RowError(
                f'{name} has "{key}", which no training row can hold', "write it into the turn's text or remove it"
            )
    row.ignored += [f"{column}[].{key}" for key in given if key not in keys]
    return given


def _role(value: Any, name: str, roles: dict[str, Role]) -> Role:
    if not isinstance(value, str) or value not in roles:
        raise RowError(f"{name} is {shown(value)}", f"use one of {', '.join(roles)}")
    return roles[value]


def _part(row: _Row, part: Any, name: str) -> Part:
    if not isinstance(part, dict):
        raise RowError(f"{name} is {kind_of(part)} ({shown(part)})", 'write each part as {"type": "text", "text": …}')
    given = {key: value for key, value in part.items() if value is not None}
    kind = given.pop("type", None)
    if kind == "text":
        if "text" not in given:
            raise RowError(f'{name} has no "text"', 'add "text" or remove the part')
        found: Part = _text(given.pop("text"), f"{name}.text", empty=True)
    elif kind == "image":
        sources = [key for key in ("image", "path", "url", "base64") if key in given]
        if len(sources) > 1:
            raise RowError(f"{name} names its picture twice ({' and '.join(sources)})", 'give "image" alone')
        found = row.locator.locate(given.pop(sources[0]), f"{name}.{sources[0]}") if sources else _SLOT
    elif kind == "image_url":
        source = given.pop("image_url", None)
        url = source.get("url") if isinstance(source, dict) else source
        found = row.locator.locate(url, f"{name}.image_url.url")
    else:
        raise RowError(f"{name}.type is {shown(kind)}", "use text, image or image_url")
    lost = [key for key in ("text", "image", "image_url", "video", "audio") if key in given]
    if lost:
        raise RowError(f'{name} is of type {kind} and also holds "{lost[0]}"', "make it a part of its own")
    row.ignored += [f"content[].{key}" for key in given]
    return found


def _with_system(row: _Row, kind: str, turns: list[Turn]) -> list[Turn]:
    """``turns`` with the ``system`` column in front; an empty one is none."""
    system = row.fields.pop("system", "")
    if not _text(system, '"system"', empty=True).strip():
        return turns
    if kind != "chat":
        raise RowError('"system" cannot be kept: this format has no turns', 'write the row as "messages"')
    if turns[0][0] == "system":
        raise RowError('the row has a "system" column and a system turn', "keep one of them")
    return [("system", [system]), *turns]


def _placed(turns: list[Turn], pictures: list[ImageRef], *, in_front: bool, vision: bool) -> list[Turn]:
    """``turns`` with every picture of the image column where its mark stands."""
    parts = [part for _, parts in turns for part in parts]
    inline = any(isinstance(part, ImageRef) for part in parts)
    slots = sum(part is _SLOT for part in parts)
    if vision and not slots and not inline:
        turns = [(role, _split(turn) if role in ("user", "tool") else turn) for role, turn in turns]
        slots = sum(part is _SLOT for _, turn in turns for part in turn)
    if pictures and not slots and in_front:
        first = next(index for index, (role, _) in enumerate(turns) if role == "user")
        turns[first] = ("user", [*pictures, *turns[first][1]])
        return turns
    if slots != len(pictures):
        raise RowError(
            f'the row marks {slots} pictures and its "image" or "images" column holds {len(pictures)}',
            f'write {MARK} or {{"type": "image"}} once where each picture belongs, and give each picture',
        )
    queue = iter(pictures)
    return [(role, [next(queue) if isinstance(part, _Slot) else part for part in turn]) for role, turn in turns]


def _split(parts: list[Part]) -> list[Part]:
    """Texts cut at each ``<image>``; a line break that only sets the mark apart, as in LLaVA's data, stays text."""
    result: list[Part] = []
    for part in parts:
        if not isinstance(part, str):
            result.append(part)
            continue
        for index, text in enumerate(part.split(MARK)):
            result += ([_SLOT] if index else []) + ([text] if text else [])
    return result


def _check_turns(turns: list[Turn], vision: bool) -> None:
    """Refuse an order of roles, an empty turn or a picture that cannot be trained on."""
    roles = [role for role, _ in turns]
    if "assistant" not in roles:
        raise RowError("no assistant turn: there is no answer to learn", "add the answer or remove the row")
    if "system" in roles[1:]:
        raise RowError(f"turn {roles.index('system', 1) + 1} is a system turn", "put the one system turn first")
    spoken = roles[1:] if roles[0] == "system" else roles
    if len(turns) > 1 and spoken[0] != "user":
        raise RowError(f"the first turn after the system's is the {spoken[0]}'s", "begin with a user turn")
    if roles[-1] != "assistant":
        raise RowError(f"the last turn is the {roles[-1]}'s and has no answer", "add the answer or remove the turn")
    for before, role in pairwise(roles):
        if role == "tool" and before not in ("assistant", "tool"):
            raise RowError(
                f"a tool turn follows the {before}'s", "put it after the assistant turn that called the tool"
            )
    for number, (role, parts) in enumerate(turns, 1):
        pictured = any(isinstance(part, ImageRef) for part in parts)
        if pictured and not vision:
            raise RowError("the row has pictures, and the job trains a text model", "set isVision: true or remove them")
        if pictured and role in ("system", "assistant"):
            raise RowError(f"turn {number}, the {role}'s, holds a picture", "move it to a user turn")
        if role != "system" and not pictured and not any(isinstance(part, str) and part.strip() for part in parts):
            raise RowError(f"turn {number}, the {role}'s, is empty", "fill it in or remove the row")


def _refuse_lost(left: dict[str, Any], *, chat: bool) -> None:
    """Refuse content that no turn took; other columns are ignored and counted."""
    for key in left:
        empty = left[key] in ([], "", {})
        if not empty and (key in _CONTENT or (key in _ANSWERS and not chat)):
            raise RowError(
                f'the column "{key}" has no place in this format and would be lost',
                "remove it, or write the row as messages",
            )


def _joined(parts: list[Part]) -> tuple[str | ImageRef, ...]:
    return tuple(part for part in parts if not isinstance(part, _Slot))
