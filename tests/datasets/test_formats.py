"""A row of each format becomes an Example with all its turns, roles and pictures, in order."""

import base64
import json
import sys

import pytest

from model_garden.datasets import formats
from model_garden.datasets.convert import convert, has_pictures
from model_garden.datasets.errors import RowError
from model_garden.datasets.example import ImageRef
from model_garden.datasets.locate import Locator
from model_garden.datasets.origin import Origin

ORIGIN = Origin("data.jsonl", 7)
PNG = b"\x89PNG"
URI = "data:image/png;base64," + base64.b64encode(PNG).decode()


def converted(row, tmp_path, *, vision):
    return convert(row, ORIGIN, Locator(tmp_path), vision=vision)


def shape(example, tmp_path):
    """An example as plain values: kind, and a tuple of role and parts a turn; a picture is its name or its bytes."""
    turns = []
    for message in example.messages:
        parts = []
        for part in message.parts:
            if isinstance(part, ImageRef):
                source = part.source
                parts.append([source if isinstance(source, bytes) else str(source.relative_to(tmp_path))])
            else:
                parts.append(part)
        turns.append((message.role, *parts))
    return example.kind, turns


def chat(*turns):
    return "chat", list(turns)


def turn(role, content):
    return {"role": role, "content": content}


TEXT = {
    "messages": (
        {"messages": [turn("user", "Hi"), turn("assistant", "Hello")]},
        chat(("user", "Hi"), ("assistant", "Hello")),
    ),
    "messages of several turns with system and tool": (
        {
            "messages": [
                turn("system", "Be brief."),
                turn("user", "1"),
                turn("assistant", "2"),
                turn("tool", "3"),
                turn("assistant", "4"),
                turn("user", "5"),
                turn("assistant", "6"),
            ]
        },
        chat(
            ("system", "Be brief."),
            ("user", "1"),
            ("assistant", "2"),
            ("tool", "3"),
            ("assistant", "4"),
            ("user", "5"),
            ("assistant", "6"),
        ),
    ),
    "messages with text parts": (
        {
            "messages": [
                turn("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
                turn("assistant", "c"),
            ]
        },
        chat(("user", "a", "b"), ("assistant", "c")),
    ),
    "messages with keys that Parquet filled with null": (
        {
            "messages": [
                {"role": "user", "content": "a", "name": None, "tool_calls": None},
                {"role": "assistant", "content": "b", "name": None, "tool_calls": None},
            ],
            "image": None,
            "text": None,
        },
        chat(("user", "a"), ("assistant", "b")),
    ),
    "ShareGPT": (
        {
            "conversations": [
                {"from": "system", "value": "S"},
                {"from": "human", "value": "Q"},
                {"from": "gpt", "value": "A"},
            ]
        },
        chat(("system", "S"), ("user", "Q"), ("assistant", "A")),
    ),
    "ShareGPT with a system column": (
        {"system": "S", "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
        chat(("system", "S"), ("user", "Q"), ("assistant", "A")),
    ),
    "prompt and completion": (
        {"prompt": "2 + 2 =", "completion": " 4"},
        ("completion", [("user", "2 + 2 ="), ("assistant", " 4")]),
    ),
    "prompt and completion as messages": (
        {"prompt": [turn("system", "S"), turn("user", "Q")], "completion": [turn("assistant", "A")]},
        chat(("system", "S"), ("user", "Q"), ("assistant", "A")),
    ),
    "instruction, input and output": (
        {"instruction": "Add.", "input": "2, 3", "output": "5"},
        chat(("user", "Add.\n\n2, 3"), ("assistant", "5")),
    ),
    "instruction and output with an empty input": (
        {"instruction": "Say hi.", "input": "", "output": "hi"},
        chat(("user", "Say hi."), ("assistant", "hi")),
    ),
    "plain text": ({"text": "Once upon a time."}, ("text", [("assistant", "Once upon a time.")])),
    "white space is kept as it is": (
        {"messages": [turn("user", " Hi\n"), turn("assistant", "\n Hello ")]},
        chat(("user", " Hi\n"), ("assistant", "\n Hello ")),
    ),
    "a mark for pictures is plain text for a text model": (
        {"messages": [turn("user", "What does <image> mean?"), turn("assistant", "A tag.")]},
        chat(("user", "What does <image> mean?"), ("assistant", "A tag.")),
    ),
}

VISION = {
    "a question on a picture": (
        {"text": "What?", "image": "a.png", "response": "A cat."},
        chat(("user", ["a.png"], "What?"), ("assistant", "A cat.")),
    ),
    "a question on several pictures": (
        {"text": "Compare.", "images": ["a.png", "b/c.jpg"], "response": "Same."},
        chat(("user", ["a.png"], ["b/c.jpg"], "Compare."), ("assistant", "Same.")),
    ),
    "a question that marks where its pictures stand": (
        {"text": "Is <image> like <image>?", "images": ["a.png", "b.png"], "response": "No."},
        chat(("user", "Is ", ["a.png"], " like ", ["b.png"], "?"), ("assistant", "No.")),
    ),
    "a question with a system prompt": (
        {"system": "S", "text": "What?", "image": "a.png", "response": "A cat."},
        chat(("system", "S"), ("user", ["a.png"], "What?"), ("assistant", "A cat.")),
    ),
    "a data URI": (
        {"text": "What?", "image": URI, "response": "A cat."},
        chat(("user", [PNG], "What?"), ("assistant", "A cat.")),
    ),
    "bytes": (
        {"text": "What?", "image": PNG, "response": "A cat."},
        chat(("user", [PNG], "What?"), ("assistant", "A cat.")),
    ),
    "several pictures in the column image": (
        {
            "image": ["a.png", "b.png"],
            "conversations": [
                {"from": "human", "value": "<image>\n<image>\nCompare."},
                {"from": "gpt", "value": "Same."},
            ],
        },
        chat(("user", ["a.png"], "\n", ["b.png"], "\nCompare."), ("assistant", "Same.")),
    ),
    "a file URI": (
        {"text": "What?", "image": "file://HERE/a%20b.png", "response": "A cat."},
        chat(("user", ["a b.png"], "What?"), ("assistant", "A cat.")),
    ),
    "a file URI in a part": (
        {
            "messages": [
                turn("user", [{"type": "image", "image": "file://localhostHERE/a.png"}, {"type": "text", "text": "?"}]),
                turn("assistant", "A cat."),
            ]
        },
        chat(("user", ["a.png"], "?"), ("assistant", "A cat.")),
    ),
    "image parts that count their pictures": (
        {
            "images": ["a.png", "b.png"],
            "messages": [
                turn(
                    "user",
                    [
                        {"type": "image", "text": None, "index": 0},
                        {"type": "image", "text": None, "index": 1},
                        {"type": "text", "text": "Compare.", "index": None},
                    ],
                ),
                turn("assistant", [{"type": "text", "text": "Same.", "index": None}]),
            ],
        },
        chat(("user", ["a.png"], ["b.png"], "Compare."), ("assistant", "Same.")),
    ),
    "an Image column with bytes and a name": (
        {"text": "What?", "image": {"bytes": PNG, "path": "x.png"}, "response": "A cat."},
        chat(("user", [PNG], "What?"), ("assistant", "A cat.")),
    ),
    "an Image column with a path alone": (
        {"text": "What?", "image": {"bytes": None, "path": "x.png"}, "response": "A cat."},
        chat(("user", ["x.png"], "What?"), ("assistant", "A cat.")),
    ),
    "OpenAI image_url parts": (
        {
            "messages": [
                turn("user", [{"type": "image_url", "image_url": {"url": URI}}, {"type": "text", "text": "What?"}]),
                turn("assistant", [{"type": "text", "text": "A cat."}]),
            ]
        },
        chat(("user", [PNG], "What?"), ("assistant", "A cat.")),
    ),
    "image parts in several turns": (
        {
            "messages": [
                turn("user", [{"type": "text", "text": "Look"}, {"type": "image", "image": "a.png"}]),
                turn("assistant", "Yes?"),
                turn("user", [{"type": "image", "path": "b.png"}, {"type": "text", "text": "and this"}]),
                turn("assistant", "Ah."),
            ]
        },
        chat(("user", "Look", ["a.png"]), ("assistant", "Yes?"), ("user", ["b.png"], "and this"), ("assistant", "Ah.")),
    ),
    "image parts whose pictures stand in a column": (
        {
            "images": ["a.png", "b.png"],
            "messages": [
                turn("user", [{"type": "image"}, {"type": "text", "text": "1"}]),
                turn("assistant", "2"),
                turn("user", [{"type": "text", "text": "3"}, {"type": "image"}]),
                turn("assistant", "4"),
            ],
        },
        chat(("user", ["a.png"], "1"), ("assistant", "2"), ("user", "3", ["b.png"]), ("assistant", "4")),
    ),
    "ShareGPT with marks": (
        {
            "image": "a.png",
            "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}],
        },
        chat(("user", ["a.png"], "\nWhat?"), ("assistant", "A cat.")),
    ),
    "prompt, completion and images": (
        {"prompt": "What?", "completion": "A cat.", "images": ["a.png"]},
        chat(("user", ["a.png"], "What?"), ("assistant", "A cat.")),
    ),
    "instruction, output and image": (
        {"instruction": "Name it.", "output": "A cat.", "image": "a.png"},
        chat(("user", ["a.png"], "Name it."), ("assistant", "A cat.")),
    ),
    "a row without pictures beside rows with some": (
        {"messages": [turn("user", "Hi"), turn("assistant", "Hello")]},
        chat(("user", "Hi"), ("assistant", "Hello")),
    ),
}


@pytest.mark.parametrize("name", TEXT)
def test_a_row_for_a_text_model(name, tmp_path):
    row, expected = TEXT[name]
    result = converted(row, tmp_path, vision=False)
    assert shape(result.example, tmp_path) == expected
    assert result.example.origin == ORIGIN
    assert result.ignored == ()


@pytest.mark.parametrize("name", VISION)
def test_a_row_for_a_vision_model(name, tmp_path):
    row, expected = VISION[name]
    row = json.loads(json.dumps(row).replace("HERE", str(tmp_path))) if "HERE" in str(row) else row
    result = converted(row, tmp_path, vision=True)
    assert shape(result.example, tmp_path) == expected
    assert result.ignored == ()


QUESTION_ANSWER = """
from model_garden.datasets.formats.base import Format
from model_garden.datasets.turns import Turn


def _read(row):
    return "chat", [Turn("user", [row.text("question")]), Turn("assistant", [row.text("answer")])]


FORMAT = Format(required=("question", "answer"), shape='{"question", "answer"}', about="a question", read=_read)
"""


@pytest.fixture
def new_format(tmp_path, monkeypatch):
    """A format that is added as anybody adds one: by one file in the package."""
    (tmp_path / "question_answer.py").write_text(QUESTION_ANSWER)
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path)])
    monkeypatch.setattr(formats, "FORMATS", formats._discovered())
    yield
    del sys.modules["model_garden.datasets.formats.question_answer"]


def test_a_format_is_added_by_one_file(new_format, tmp_path):
    row = {"question": "Q", "answer": "A"}
    assert shape(converted(row, tmp_path, vision=False).example, tmp_path) == chat(("user", "Q"), ("assistant", "A"))
    assert '| `{"question", "answer"}` | sft | text, vision | a question |' in formats.markdown_table()
    with pytest.raises(RowError, match=r'accepted: .*\{"question", "answer"\}'):
        converted({"other": 1}, tmp_path, vision=False)
    with pytest.raises(RowError, match='"answer" is missing; add "answer" or remove the row'):
        converted({"question": "Q"}, tmp_path, vision=False)


@pytest.mark.parametrize("name", TEXT)
def test_a_new_format_does_not_change_the_rows_of_others(name, new_format, tmp_path):
    row, expected = TEXT[name]
    result = converted(row | {"answer": "A"}, tmp_path, vision=False)
    assert shape(result.example, tmp_path) == expected
    assert result.ignored == ("answer",)


def test_a_row_of_two_formats_is_read_by_the_one_that_keeps_most(tmp_path):
    row = TEXT["messages"][0] | {"text": "Hi Hello", "prompt": "Hi", "completion": "Hello"}
    assert converted(row, tmp_path, vision=False).example.kind == "chat"
    assert (
        converted({"text": "a", "prompt": "b", "completion": "c"}, tmp_path, vision=False).example.kind == "completion"
    )


@pytest.mark.parametrize("name", TEXT)
def test_a_text_row_has_no_pictures(name):
    assert not has_pictures(TEXT[name][0])


@pytest.mark.parametrize("name", [name for name in VISION if name != "a row without pictures beside rows with some"])
def test_a_vision_row_has_pictures(name):
    assert has_pictures(VISION[name][0])


def test_keys_that_no_format_reads_are_named(tmp_path):
    row = {
        "id": 3,
        "prompt": "Hi",
        "messages": [turn("user", "Hi") | {"name": "Ada"}, turn("assistant", "Hello")],
        "score": None,
    }
    assert converted(row, tmp_path, vision=False).ignored == ("messages[].name", "id", "prompt")


def test_converting_does_not_change_the_row(tmp_path):
    row = {"text": "What?", "image": "a.png", "response": "A cat."}
    converted(row, tmp_path, vision=True)
    assert row == {"text": "What?", "image": "a.png", "response": "A cat."}
