"""Rows that cannot be trained on: each is refused with the reason and the fix."""

import pytest

from model_garden.datasets.convert import convert
from model_garden.datasets.errors import RowError
from model_garden.datasets.locate import Locator
from model_garden.datasets.origin import Origin


def turn(role, content, **more):
    return {"role": role, "content": content, **more}


def question(**changed):
    return {"text": "What?", "image": "a.png", "response": "A cat."} | changed


USER, ANSWER = turn("user", "Hi"), turn("assistant", "Hello")

TEXT = [
    ("a list", [1], 'the row is a list, not an object; accepted: {"messages"'),
    ("no keys", {}, 'no known format (its keys: none); accepted: {"messages"'),
    (
        "unknown keys",
        {"question": "a", "answer": "b"},
        'its keys: "question", "answer"); set columnMapping: {prompt: question, response: answer}; or write another '
        'format; accepted: {"messages"',
    ),
    ("no completion", {"prompt": "a"}, '"completion" is missing; add "completion" or remove the row'),
    ("no prompt", {"completion": "a"}, '"prompt" is missing'),
    ("null completion", {"prompt": "a", "completion": None}, '"completion" is missing'),
    ("empty completion", {"prompt": "a", "completion": " \n"}, '"completion" is empty; fill it in or remove the row'),
    (
        "a number",
        {"prompt": "a", "completion": 4},
        '"completion" is a number (4), not text; write it as text, in quotes',
    ),
    ("no output", {"instruction": "a", "input": "b"}, '"output" is missing'),
    ("no instruction", {"output": "a"}, '"instruction" is missing'),
    ("empty text", {"text": ""}, '"text" is empty'),
    (
        "half a character",
        {"text": "a\ud800"},
        "('\\ud800', an unpaired surrogate, at position 1); save the text as UTF-8",
    ),
    ("messages as text", {"messages": "Hi"}, "\"messages\" is text ('Hi'), not a list"),
    ("no messages", {"messages": []}, '"messages" is an empty list'),
    ("a turn as text", {"messages": ["Hi"]}, "messages[0] is text ('Hi'); write each turn as an object with \"role\""),
    ("no role", {"messages": [{"content": "Hi"}]}, 'messages[0] has no "role"'),
    ("no content", {"messages": [USER, {"role": "assistant"}]}, 'messages[1] has no "content"'),
    (
        "unknown role",
        {"messages": [turn("bot", "Hi")]},
        "messages[0].role is 'bot'; use one of system, developer, user",
    ),
    ("a list as role", {"messages": [turn([], "Hi")]}, "messages[0].role is []; use one of"),
    ("no answer", {"messages": [USER]}, "no assistant turn: there is no answer to learn"),
    ("empty answer", {"messages": [USER, turn("assistant", "")]}, "messages[1].content is empty"),
    ("open end", {"messages": [USER, ANSWER, USER]}, "the last turn is the user's and has no answer"),
    ("answer first", {"messages": [ANSWER, USER, ANSWER]}, "the first turn after the system's is the assistant's"),
    (
        "late system",
        {"messages": [USER, turn("system", "S"), ANSWER]},
        "turn 2 is a system turn; a row may have one system turn",
    ),
    ("tool after user", {"messages": [USER, turn("tool", "x"), ANSWER]}, "a tool turn follows the user's"),
    (
        "tool calls",
        {"messages": [USER, turn("assistant", "a", tool_calls=[{"id": 1}])]},
        "messages[1].tool_calls[0] has no name of a tool ({'id': 1}); write a call as",
    ),
    (
        "arguments that are no object",
        {"messages": [USER, turn("assistant", "", tool_calls=[{"function": {"name": "f", "arguments": "[1]"}}])]},
        "messages[1].tool_calls[0].arguments is a list ([1]); write the arguments as an object",
    ),
    (
        "arguments that are no JSON",
        {"messages": [USER, turn("assistant", "", tool_calls=[{"function": {"name": "f", "arguments": "{a"}}])]},
        "messages[1].tool_calls[0].arguments is not valid JSON (",
    ),
    (
        "two kinds of calls",
        {"messages": [USER, turn("assistant", "", tool_calls=[{"name": "f"}], function_call={"name": "f"})]},
        "messages[1] has both tool_calls and function_call; keep tool_calls",
    ),
    (
        "a call in words",
        {"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "call f"}]},
        "conversations[1].value is not valid JSON (",
    ),
    ("half a weight", {"messages": [USER, turn("assistant", "a", weight=0.5)]}, 'messages[1] has "weight" (0.5)'),
    (
        "marks that contradict each other",
        {"messages": [USER, turn("assistant", "a", weight=0, train=True)]},
        'messages[1] has "weight" (0) and "train" (true), which contradict each other; keep one of them',
    ),
    (
        "no answer is trained",
        {"messages": [USER, turn("assistant", "a", train=False)]},
        "every answer of the row is marked as not trained; remove the row, or the mark of an answer",
    ),
    (
        "two reasonings",
        {"messages": [USER, turn("assistant", "a", reasoning="b", thinking="c")]},
        "messages[1].reasoning and thinking have different reasoning; keep one of them",
    ),
    (
        "reasoning that is not text",
        {"messages": [USER, turn("assistant", "a", reasoning=["b"])]},
        "messages[1].reasoning is a list (['b']), not text",
    ),
    ("a tool without a name", {"messages": [USER, ANSWER], "tools": [{"a": 1}]}, '"tools"[0] has no name ('),
    ("tools in words", {"messages": [USER, ANSWER], "tools": "search"}, '"tools" is not valid JSON ('),
    ("tools of a text", {"text": "a", "tools": [{"name": "f"}]}, '"tools" needs turns, which this format does not'),
    (
        "reasoning without a template",
        {"prompt": "a", "completion": "b", "cot": "c"},
        'the row has "cot", and this format is rendered without a chat template, so the reasoning would be lost',
    ),
    ("history", {"instruction": "a", "output": "b", "history": [["c", "d"]]}, 'the row has "history" (['),
    (
        "two answers",
        {"prompt": "a", "completion": "b", "output": "c"},
        "the row has \"output\" ('c'): it is a second answer and would be lost; keep one answer",
    ),
    (
        "two systems",
        {"system": "S", "messages": [turn("system", "T"), USER, ANSWER]},
        '"system" column and a system turn',
    ),
    ("system of plain text", {"system": "S", "text": "a"}, "the row has \"system\" ('S'): it is part of the prompt"),
    ("mixed prompt", {"prompt": [USER], "completion": "b"}, "\"completion\" is text ('b'), not a list"),
    ("unknown speaker", {"conversations": [{"from": "me", "value": "a"}]}, "conversations[0].from is 'me'; use one of"),
    ("nothing said", {"conversations": [{"from": "human"}]}, 'conversations[0] has no "value"'),
    (
        "unknown part",
        {"messages": [turn("user", [{"type": "video", "video": "a"}])]},
        "content[0].type is 'video'; use text",
    ),
    ("part without text", {"messages": [turn("user", [{"type": "text"}])]}, 'content[0] has no "text"'),
    ("part as text", {"messages": [turn("user", ["Hi"])]}, "content[0] is text ('Hi'); write each part as"),
    (
        "two in a part",
        {"messages": [turn("user", [{"type": "text", "text": "a", "image": "b"}])]},
        "content[0] has \"image\" ('b'): it is content of another type and would be lost; write it as a separate part",
    ),
    (
        "blank parts",
        {"messages": [turn("user", [{"type": "text", "text": " "}]), ANSWER]},
        "turn 1, the user's, is empty",
    ),
    ("pictures for a text model", question(), "the job trains a text model; set isVision: true"),
    (
        "a response for a text model",
        {"text": "a", "response": "b"},
        'has the key "response" of the vision format',
    ),
    (
        "image parts for a text model",
        {"messages": [turn("user", [{"type": "image", "image": "a.png"}]), ANSWER]},
        "the job trains a text model",
    ),
]

VISION = [
    (
        "no response",
        {"text": "What?", "image": "a.png"},
        'the row has "text" and no "response", and the job trains a vision-language model; add "response"',
    ),
    ("text alone", {"text": "What?"}, 'the row has "text" and no "response"'),
    ("no text", {"image": "a.png", "response": "A cat."}, '"text" is missing'),
    ("no image", {"text": "What?", "response": "A cat."}, '"image" is missing; add "image" or "images"'),
    ("no pictures", {"text": "What?", "images": [], "response": "A cat."}, '"image" is missing'),
    ("empty response", question(response=""), '"response" is empty'),
    ("text as images", {"text": "a", "images": "a.png", "response": "b"}, "\"images\" is text ('a.png'), not a list"),
    ("image and images", question(images=["b.png"]), 'both "image" and "images"; put all images into "images"'),
    ("a number as image", question(image=3), '"image" is a number; give a path, a data URI'),
    ("an empty path", question(image=""), "\"image\" is ''; give the path of an image"),
    ("a zero byte in a path", question(image="a\0.png"), "give the path of an image"),
    ("no bytes", question(image=b""), '"image" holds no bytes'),
    (
        "an address",
        question(image="https://example.org/a.png"),
        "images are not downloaded; set fetchPictures: true",
    ),
    (
        "a signed address where a list belongs",
        {"text": "a", "images": "https://example.org/it's.png?sig=SECRET", "response": "b"},
        '"images" is text ("https://example.org/it\'s.png?…"), not a list',
    ),
    (
        "a file URI without a root",
        question(image="file://a.png"),
        "is 'file://a.png': a file URI names an absolute path",
    ),
    ("an image and images", question(image=["a.png"], images=["b.png"]), 'both "image" and "images"'),
    ("a data URI of text", question(image="data:text/plain;base64,aGk="), "is a data URI of text/plain"),
    ("a data URI without base64", question(image="data:image/svg+xml,%3Csvg"), "is a data URI without base64"),
    ("broken base64", question(image="data:image/png;base64,iVBOR!"), "with broken base64"),
    ("an empty data URI", question(image="data:image/png;base64,"), '"image" holds no bytes'),
    ("too many marks", question(text="<image> or <image>?"), "has 2 image marks, but its"),
    (
        "a picture that no turn refers to",
        {"image": "a.png", "messages": [turn("user", "What?"), turn("assistant", "A cat.")]},
        'has 0 image marks, but its "image" or "images" column has 1 images; write <image>',
    ),
    (
        "a picture beside image parts",
        {
            "image": "b.png",
            "messages": [turn("user", [{"type": "image", "image": "a.png"}, {"type": "text", "text": "?"}]), ANSWER],
        },
        "has 0 image marks",
    ),
    (
        "a mark without a picture",
        {"conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}]},
        "has 1 image marks, but its",
    ),
    (
        "a picture in an answer",
        {"messages": [USER, turn("assistant", [{"type": "image", "image": "a.png"}])]},
        "turn 2, the assistant's, holds an image; move it to a user turn",
    ),
    (
        "two sources",
        {"messages": [turn("user", [{"type": "image", "image": "a.png", "path": "b.png"}]), ANSWER]},
        "has several keys for one image (image and path)",
    ),
    (
        "a mark for video",
        {"messages": [turn("user", "<video>What happens?"), ANSWER]},
        "turn 1, the user's, holds <video>, and video and audio are not trained on; remove the mark or the row",
    ),
    (
        "a mark for audio",
        {"conversations": [{"from": "human", "value": "<audio>\nWho?"}, {"from": "gpt", "value": "Ada."}]},
        "holds <audio>, and video and audio are not trained on",
    ),
    (
        "pictures out of order",
        {
            "images": ["a.png", "b.png"],
            "messages": [turn("user", [{"type": "image", "index": 1}, {"type": "image", "index": 0}]), ANSWER],
        },
        "image part 1 of the row has the index 1, and images are used in order",
    ),
    (
        "a size of one picture",
        {"messages": [turn("user", [{"type": "image", "image": "a.png", "max_pixels": 50176}]), ANSWER]},
        'content[0] has "max_pixels" (50176): it sets the size of one image',
    ),
    ("no address", {"messages": [turn("user", [{"type": "image_url"}]), ANSWER]}, "image_url.url is null"),
]


def error_of(row, tmp_path, *, vision):
    with pytest.raises(RowError) as caught:
        convert(row, Origin("data.jsonl", 7), Locator(tmp_path), vision=vision)
    return caught.value.at(Origin("data.jsonl", 7))


@pytest.mark.parametrize(("row", "words"), [case[1:] for case in TEXT], ids=[case[0] for case in TEXT])
def test_a_bad_row_for_a_text_model_is_refused(row, words, tmp_path):
    message = error_of(row, tmp_path, vision=False)
    assert message.startswith("data.jsonl row 7: ")
    assert words in message


@pytest.mark.parametrize(("row", "words"), [case[1:] for case in VISION], ids=[case[0] for case in VISION])
def test_a_bad_row_for_a_vision_model_is_refused(row, words, tmp_path):
    message = error_of(row, tmp_path, vision=True)
    assert message.startswith("data.jsonl row 7: ")
    assert words in message


@pytest.mark.parametrize("path", ["../secret.png", "/etc/passwd", "link.png", "folder/../../secret.png", "out/a.png"])
def test_a_picture_outside_the_root_is_refused(path, tmp_path):
    root = tmp_path / "workspace"
    (root / "data" / "folder").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(b"x")
    (root / "data" / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "data" / "out").symlink_to(tmp_path)
    locator = Locator(root / "data", root)
    if path.startswith(".."):
        path = "../" + path  # from data, one up is still inside
    if path.startswith("folder"):
        path = "../" + path
    with pytest.raises(RowError, match="is outside"):
        convert(question(image=path), Origin("data.jsonl", 1), locator, vision=True)


def test_a_picture_anywhere_below_the_root_is_accepted(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "pictures").mkdir()
    locator = Locator(tmp_path / "data", tmp_path)
    for path in ("../pictures/a.png", str(tmp_path / "pictures" / "a.png")):
        convert(question(image=path), Origin("data.jsonl", 1), locator, vision=True)
