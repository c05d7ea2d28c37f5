"""Keys that no format reads: refused where they change what is trained, else ignored and reported."""

import json

import pytest

from model_garden.datasets import check_examples, open_examples, warnings_of
from model_garden.datasets.convert import convert
from model_garden.datasets.errors import RowError
from model_garden.datasets.keys import MEANINGS
from model_garden.datasets.locate import Locator
from model_garden.datasets.origin import Origin


def read(row, tmp_path, *, vision=False):
    return convert(row, Origin("data.jsonl", 7), Locator(tmp_path), vision=vision)


def conversation(*, question=None, answer=None, **row):
    """A row of two turns, with more keys in the question's turn, the answer's and the row."""
    user, assistant = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
    return {"messages": [user | (question or {}), assistant | (answer or {})]} | row


def sharegpt(answer):
    return {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"} | answer]}


CHANGES_TRAINING = {
    "half a weight": conversation(answer={"weight": 0.5}),
    "loss mask of a row (LLaMA-Factory)": conversation(loss_mask=[0, 1]),
    "loss scale of a row": conversation(loss_scale=[0.5]),
    "train of a question (Axolotl)": conversation(question={"train": True}),
    "details of a turn (Axolotl)": conversation(answer={"train_detail": [{"begin_offset": 0, "end_offset": 1}]}),
    "label (TRL)": {"prompt": "a", "completion": "b", "label": False},
    "label of a CSV file": {"prompt": "a", "completion": "b", "label": "False"},
    "label of messages (ms-swift)": conversation(label=False),
    "kto_tag (LLaMA-Factory)": {"instruction": "a", "output": "b", "kto_tag": False},
    "labels of steps (TRL)": {"prompt": "a", "completion": "b", "labels": [True, False]},
    "rejected response (ms-swift)": conversation(rejected_response="Go away."),
    "chosen and rejected (TRL)": {"prompt": "a", "chosen": "b", "rejected": "c"},
    "rejected beside messages": conversation(rejected=[{"role": "assistant", "content": "c"}]),
    "completions (TRL)": {"prompt": "a", "completion": "b", "completions": ["c"]},
    "reasoning of a row of turns": conversation(reasoning="Because."),
    "reasoning of a question": conversation(question={"reasoning": "Because."}),
    "reasoning in parts (OpenRouter)": conversation(answer={"reasoning_details": [{"text": "Because."}]}),
    "tool calls of a row": conversation(tool_calls=[{"name": "f"}]),
    "documents": conversation(documents=[{"title": "a", "text": "b"}]),
    "weight of a row": conversation(weight=0),
    "refusal (OpenAI)": conversation(answer={"refusal": "No."}),
    "channel (Harmony)": conversation(answer={"channel": "analysis"}),
    "system prompt": conversation(system_prompt="Be brief."),
    "template arguments": conversation(chat_template_kwargs={"enable_thinking": False}),
    "thinking mode (verl)": conversation(enable_thinking=True),
    "tokens": {"text": "a", "input_ids": [1, 2]},
    "objects (ms-swift)": conversation(objects={"ref": ["cup"], "bbox": [[1, 2, 3, 4]]}),
    "box": conversation(bbox=[1, 2, 3, 4]),
    "pictures of a turn (Ollama)": conversation(question={"images": ["a.png"]}),
    "videos": conversation(videos=["a.mp4"]),
    "audio of a turn": conversation(answer={"audio": {"id": "a"}}),
    "weight of a part": conversation(answer={"content": [{"type": "text", "text": "a", "weight": 0}]}),
}

CHANGES_NOTHING = {
    "weight 1": conversation(answer={"weight": 1}),
    "weight 1.0 of all turns": conversation(question={"weight": 1.0}, answer={"weight": 1.0}),
    "weight 0 of a question (SlimOrca)": conversation(question={"weight": 0.0}, answer={"weight": 1.0}),
    "loss true": conversation(answer={"loss": True}),
    "train true": conversation(answer={"train": True}),
    "train as the roles are": conversation(question={"train": False}, answer={"train": True}),
    "mask 0": conversation(answer={"mask": 0}),
    "mask of the question alone": conversation(question={"mask": 1}, answer={"mask": 0}),
    "a wanted answer": {"prompt": "a", "completion": "b", "label": True},
    "weight of a CSV file": {"prompt": "a", "completion": "b", "weight": "1"},
    "the final channel": conversation(answer={"channel": "final"}),
    "empty lists": conversation(answer={"tool_calls": []}, tools=[], objects={"ref": [], "bbox": []}),
    "empty texts": conversation(answer={"reasoning_content": "", "function_call": None}, rejected_response=""),
}

EXCLUDES = {
    "loss (ms-swift)": {"loss": False},
    "weight (OpenAI)": {"weight": 0},
    "weight of a CSV file": {"weight": "0.0"},
    "loss mask (verl)": {"loss_mask": 0},
    "train (Axolotl)": {"train": False},
    "trainable": {"trainable": False},
    "train on turn": {"train_on_turn": False},
    "mask": {"mask": True},
    "mask of a number": {"mask": 1},
    "masked": {"masked": True},
    "two keys of the same meaning": {"weight": 0, "train": False},
}

IGNORED = {
    "unknown columns": (conversation(id=3, score=0.5), ("id", "score")),
    "a name": (conversation(answer={"name": "Ada"}), ("messages[].name",)),
    "a label that names a class": ({"text": "a", "label": "sports"}, ("label",)),
    "a label that counts classes": ({"text": "a", "label": 0}, ("label",)),
    "labels that count classes": ({"text": "a", "labels": [0, 3]}, ("labels",)),
    "a weight that is a text": ({"text": "a", "weight": "70 kg"}, ("weight",)),
    "a row number": (conversation(index=3), ("index",)),
    "a prompt beside messages": (conversation(prompt="Hi"), ("prompt",)),
    "a key of a part": (
        conversation(answer={"content": [{"type": "text", "text": "a", "cache_control": {"type": "x"}}]}),
        ("content[].cache_control",),
    ),
}


@pytest.mark.known_fault("modelscope/ms-swift#3447", "Placeholders of boxes are trained word for word")
@pytest.mark.known_fault("huggingface/trl#2248", "Answers that are labeled as unwanted are trained")
@pytest.mark.parametrize("name", CHANGES_TRAINING)
def test_a_key_that_changes_training_is_refused_with_its_fix(name, tmp_path):
    keys = {key for meaning in MEANINGS for key in meaning.keys}
    with pytest.raises(RowError) as caught:
        read(CHANGES_TRAINING[name], tmp_path)
    message = caught.value.at(Origin("data.jsonl", 7))
    assert message.startswith("data.jsonl row 7: ")
    assert message.split(' has "')[1].split('"')[0] in keys
    assert "; " in message


@pytest.mark.parametrize("name", CHANGES_NOTHING)
def test_a_key_whose_value_changes_nothing_is_accepted_and_not_reported(name, tmp_path):
    assert read(CHANGES_NOTHING[name], tmp_path).ignored == ()


@pytest.mark.known_fault("modelscope/ms-swift#9029", "A bad answer that is marked as not to be trained is trained")
@pytest.mark.known_fault("verl-project/verl#5472", "A bad answer that is marked as not to be trained is trained")
@pytest.mark.parametrize("name", EXCLUDES)
@pytest.mark.parametrize("shape", ["messages", "conversations"])
def test_a_key_that_excludes_an_answer_is_honored(name, shape, tmp_path):
    answer = EXCLUDES[name]
    row = conversation(answer=answer) if shape == "messages" else sharegpt(answer)
    question, _ = row[shape]
    row[shape] += [question, row[shape][1] | dict.fromkeys(answer)]
    found = read(row, tmp_path)
    assert [message.answers for message in found.example.messages] == [False, False, False, True]
    assert found.ignored == ()


@pytest.mark.parametrize("name", IGNORED)
def test_any_other_key_is_ignored_and_reported(name, tmp_path):
    row, ignored = IGNORED[name]
    assert read(row, tmp_path).ignored == ignored


def test_a_message_names_turn_key_value_and_fix(tmp_path):
    with pytest.raises(RowError) as caught:
        read(conversation(answer={"loss": 0.5}), tmp_path)
    assert str(caught.value) == (
        'messages[1] has "loss" (0.5): it gives a text another weight in the loss, but here a turn is trained with the '
        'weight 1 or 0; write "weight": 1 or 0 in a turn, or remove the key'
    )


def test_ignored_keys_are_counted_by_row_and_one_sentence_names_them(tmp_path):
    rows = [conversation(id=number, answer={"name": "Ada"} if number else {}) for number in range(3)]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = check_examples(open_examples(path, vision=False))
    assert report.ignored_columns == {"id": 3, "messages[].name": 2}
    assert warnings_of([report]) == ["keys that no format reads are ignored: id (3 rows), messages[].name (2 rows)"]
    assert warnings_of([report, report])[0].endswith("ignored: id (6 rows), messages[].name (4 rows)")


def test_nothing_is_reported_of_rows_without_ignored_keys(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(conversation()) + "\n")
    assert warnings_of([check_examples(open_examples(path, vision=False))]) == []
