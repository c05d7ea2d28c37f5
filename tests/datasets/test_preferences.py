"""Rows of preferences become two conversations that differ in their last answer, or are refused with the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model_garden.datasets.convert import convert
from model_garden.datasets.errors import RowError
from model_garden.datasets.example import Example
from model_garden.datasets.locate import Locator
from model_garden.datasets.origin import Origin


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


ASKED = [turn("user", "Hi")]
GOOD, BAD = [turn("assistant", "Hello")], [turn("assistant", "What?")]
SHARED = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
ROWS: dict[str, dict[str, Any]] = {
    "texts": {"prompt": "Hi", "chosen": "Hello", "rejected": "What?"},
    "lists of messages": {"prompt": ASKED, "chosen": GOOD, "rejected": BAD},
    "a text and messages": {"prompt": "Hi", "chosen": GOOD, "rejected": BAD},
    "one message each": {"prompt": ASKED, "chosen": GOOD[0], "rejected": BAD[0]},
    "conversations without a prompt": {"chosen": ASKED + GOOD, "rejected": ASKED + BAD},
    "conversations that repeat the prompt, as UltraFeedback has them": {
        "prompt": "Hi", "prompt_id": "1", "messages": ASKED + GOOD, "score_chosen": 9.0,
        "chosen": ASKED + GOOD, "rejected": ASKED + BAD,
    },
    "OpenAI's": {"input": {"messages": ASKED}, "preferred_output": GOOD, "non_preferred_output": BAD},
    "LLaMA-Factory's conversations": {
        "conversations": [{"from": "human", "value": "Hi"}],
        "chosen": {"from": "gpt", "value": "Hello"}, "rejected": {"from": "gpt", "value": "What?"},
    },
    "LLaMA-Factory's instructions": {"instruction": "Hi", "input": "", "chosen": "Hello", "rejected": "What?"},
    "LLaMA-Factory's pair of outputs": {"instruction": "Hi", "input": "", "output": ["Hello", "What?"]},
}  # fmt: skip


def converted(row: Any, tmp_path: Path, *, vision: bool = False, method: Any = "dpo") -> Example:
    return convert(row, Origin("data.jsonl", 7), Locator(tmp_path), vision=vision, method=method).example


def texts(messages: Any) -> list[tuple[str, str]]:
    return [(message.role, "".join(message.parts)) for message in messages]


Q1, A1, Q2, A2, B2, S = (
    turn("user", "Q1"), turn("assistant", "A1"), turn("user", "Q2"), turn("assistant", "A2"), turn("assistant", "B2"),
    turn("system", "S"),
)  # fmt: skip
CALL = {"role": "assistant", "tool_calls": [{"function": {"name": "look", "arguments": {"at": "it"}}}]}
FOUND = turn("tool", "Found.")


@pytest.mark.parametrize(
    ("prompt", "answer", "once"),
    [
        ("Q1", [Q1, A1, Q2, A2], "Q1 A1 Q2 A2"),
        ("Q2", [Q1, A1, Q2, A2], "Q1 A1 Q2 A2"),
        ([Q1], [Q1, A2], "Q1 A2"),
        ([Q1, A1, Q2], [Q1, A1, Q2, A2], "Q1 A1 Q2 A2"),
        ([S, Q1], [Q1, A2], "S Q1 A2"),
        ([Q1], [S, Q1, A2], "S Q1 A2"),
        ([S, Q1], [S, Q1, A2], "S Q1 A2"),
        ([S], [Q1, A2], "S Q1 A2"),
        ([Q1, CALL, FOUND], [Q1, CALL, FOUND, A2], "Q1  Found. A2"),
        ([Q1], [CALL, FOUND, A2], "Q1  Found. A2"),
        ([Q1], [A1, Q2, A2], "Q1 A1 Q2 A2"),
        ([Q1, A1], [Q2, A2], "Q1 A1 Q2 A2"),
        ([Q1, A1], [Q1, A2], "Q1 A1 Q1 A2"),
    ],
)  # fmt: skip
def test_a_prompt_that_its_answer_repeats_is_read_once(prompt: Any, answer: Any, once: str, tmp_path: Path) -> None:
    rows: dict[str, Any] = {
        "dpo": {"prompt": prompt, "chosen": answer, "rejected": [*answer[:-1], B2]},
        "kto": {"prompt": prompt, "completion": answer, "label": True},
    }
    if isinstance(prompt, list):
        rows["sft"] = {"prompt": prompt, "completion": answer}
        listed = {"conversations": prompt, "chosen": answer, "rejected": [*answer[:-1], B2]}
        openai = {"input": {"messages": prompt}, "preferred_output": answer, "non_preferred_output": [*answer[:-1], B2]}
        for row in (listed, openai):
            assert " ".join(text for _, text in texts(converted(row, tmp_path).messages)) == once
    for method, row in rows.items():
        found = converted(row, tmp_path, method=method)
        assert " ".join(text for _, text in texts(found.messages)) == once, method
        assert found.messages[-1].answers
    if "sft" in rows and prompt == [Q1, A1, Q2]:  # answers in the prompt carry no loss, also where they are repeated
        assert [message.answers for message in found.messages] == [False, False, False, True]


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [("Q1", [Q2, A2]), ([Q1], [Q2, A2]), ([Q1, A1, Q2], [Q1, A2]), ([S, Q1], [turn("system", "T"), Q1, A2])],
    ids=["another question", "as a list", "without a turn of the prompt", "another system prompt"],
)
def test_an_answer_that_asks_something_else_than_its_prompt_is_refused(
    prompt: Any, answer: Any, tmp_path: Path
) -> None:
    rows: list[tuple[str, dict[str, Any], str]] = [
        ("dpo", {"prompt": prompt, "chosen": answer, "rejected": [*answer[:-1], B2]}, "chosen"),
        ("kto", {"prompt": prompt, "completion": answer, "label": True}, "completion"),
    ]
    if isinstance(prompt, list):
        rows.append(("sft", {"prompt": prompt, "completion": answer}, "completion"))
    for method, row, column in rows:
        with pytest.raises(RowError, match=f'^"{column}" begins with the .*; write in "{column}" only') as raised:
            converted(row, tmp_path, method=method)
        assert "'Q" in raised.value.reason, "the question that waits for its answer"


def test_an_image_of_a_repeated_prompt_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    pictured = {"role": "user", "content": [{"type": "image", "path": "a.png"}, {"type": "text", "text": "Q1"}]}
    for prompt, answer in (("Q1", [pictured, A1]), ([pictured], [pictured, A1])):
        row = {"prompt": prompt, "completion": answer, "label": True}
        found = converted(row, tmp_path, vision=True, method="kto")
        assert len(found.messages) == 2 and len(found.images) == 1
    with pytest.raises(RowError, match='"completion" begins with the user turn'):
        row = {"prompt": [pictured], "completion": [Q1, A1], "label": True}
        converted(row, tmp_path, vision=True, method="kto")


@pytest.mark.parametrize("method", ["dpo", None])
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_shape_of_preferences_is_read(row: dict[str, Any], method: Any, tmp_path: Path) -> None:
    example = converted(row, tmp_path, method=method)
    assert texts(example.messages) == [("user", "Hi"), ("assistant", "Hello")]
    assert texts(example.rejected) == [("user", "Hi"), ("assistant", "What?")]
    assert [message.answers for message in example.messages] == [False, True]
    assert [len(one.messages) for one in example.sequences] == [2, 2]
    assert example.kind == ("completion" if row == ROWS["texts"] else "chat")


def test_labeled_conversations_and_instructions_of_llama_factory_are_read(tmp_path: Path) -> None:
    for method in ("kto", None):
        example = converted({"conversations": SHARED, "kto_tag": False}, tmp_path, method=method)
        assert texts(example.messages) == [("user", "Hi"), ("assistant", "Hello")]
        assert example.label is False
    example = converted({"instruction": "Hi", "input": "", "output": "Hello"}, tmp_path, method=None)
    assert example.rejected == () and texts(example.messages) == [("user", "Hi"), ("assistant", "Hello")]


def test_the_columns_of_system_prompt_and_images_belong_to_both_conversations(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    row = {"system": "Be kind.", "prompt": "What?", "image": "a.png", "chosen": "A cat.", "rejected": "A dog."}
    for one in converted(row, tmp_path, vision=True).sequences:
        assert [message.role for message in one.messages] == ["system", "user", "assistant"] and len(one.images) == 1


@pytest.mark.parametrize(
    ("row", "method", "words"),
    [
        ({"prompt": "Hi", "chosen": "Yes ", "rejected": "Yes"}, "dpo", "are equal ('Yes'); remove the row"),
        ({"prompt": "Hi", "chosen": "Yes", "rejected": ""}, "dpo", '"rejected" is empty'),
        ({"prompt": "Hi", "chosen": "Yes"}, "dpo", '"rejected" is missing'),
        ({"chosen": "Yes", "rejected": "No"}, "dpo", '"prompt" is missing, and "chosen" is no conversation'),
        (
            {"chosen": ASKED + GOOD, "rejected": [turn("user", "Ho"), *BAD]},
            "dpo",
            "differ in turn 1, before their last turn",
        ),
        ({"prompt": ASKED, "chosen": GOOD, "rejected": BAD + ASKED + BAD}, "dpo", "has 2 turns, and the rejected one"),
        ({"prompt": "Hi", "chosen": 1, "rejected": 2}, "dpo", '"chosen" is a number'),
        ({"input": "Hi", "preferred_output": GOOD, "non_preferred_output": BAD}, "dpo", 'without "messages"'),
        ({"messages": ASKED + GOOD}, "dpo", "the row is for method: sft"),
        ({"instruction": "Hi", "output": "Hello"}, "dpo", '"output" is \'Hello\', and a row of preferences has two'),
        ({"instruction": "Hi", "output": ["Hello"]}, "dpo", "and a row of preferences has two answers"),
        ({"instruction": "Hi", "output": ["Hello", 3]}, "dpo", '"output" is a number'),
        ({"instruction": "Hi", "output": "Hello"}, "kto", "the row is for method: sft"),
        ({"conversations": SHARED, "kto_tag": "true"}, "kto", '"kto_tag" is text'),
        ({"prompt": "Hi", "chosen": "Yes", "rejected": "No"}, "sft", "set method: dpo to train on preferences"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused_with_the_fix(row: Any, method: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(RowError) as raised:
        converted(row, tmp_path, method=method)
    assert words in str(raised.value.at(Origin("data.jsonl", 7)))
