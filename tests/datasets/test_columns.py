"""columnMapping reads the own columns of a data set, and is suggested for rows of no known format."""

import json

import pytest
from PIL import Image

from model_garden.datasets import DatasetError, check_examples, open_examples
from model_garden.datasets.columns import suggested

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.fixture
def opened(tmp_path):
    """Writes rows, and reads them with a mapping."""

    def read(rows, columns, **options):
        (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return open_examples(tmp_path / "data.jsonl", columns=columns, **{"vision": False} | options)

    return read


def texts(example):
    return [(message.role, message.text) for message in example.messages]


def test_prompt_response_and_system_are_read_from_their_columns(opened):
    row = {"q": "Hi", "best": "Hello", "role": "Be brief.", "worst": "No."}
    examples = opened([row], {"prompt": "q", "response": "best", "system": "role"})
    assert examples[0].kind == "chat"
    assert texts(examples[0]) == [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello")]
    assert examples.convert(0).ignored == ("worst",)


def test_the_mapping_alone_decides_where_columns_of_formats_exist_too(opened):
    row = {"prompt": "Old", "completion": "Old", "output": "Old", "q": "Hi", "a": "Hello"}
    examples = opened([row], {"prompt": "q", "response": "a"})
    assert texts(examples[0]) == [("user", "Hi"), ("assistant", "Hello")]
    assert examples.convert(0).ignored == ("completion (not mapped)", "output (not mapped)", "prompt (not mapped)")


@pytest.mark.parametrize("turns", [TURNS, [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]])
def test_turns_are_read_from_their_column(turns, opened):
    assert texts(opened([{"chat": turns}], {"messages": "chat"})[0]) == [("user", "Hi"), ("assistant", "Hello")]


def test_images_are_read_from_their_column(opened, tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    examples = opened(
        [{"q": "What?", "a": "A cat.", "photo": "a.png"}],
        {"prompt": "q", "response": "a", "image": "photo"},
        vision=True,
    )
    assert check_examples(examples).images == 1
    assert [image.source for image in examples[0].images] == [tmp_path / "a.png"]
    assert [image.source for image in examples.images_named(0)] == [tmp_path / "a.png"]


def test_preferences_are_read_from_their_columns(opened):
    row = {"q": "Hi", "good": "Hello", "bad": "What?"}
    example = opened([row], {"prompt": "q", "chosen": "good", "rejected": "bad"}, method="dpo")[0]
    assert (example.messages[-1].text, example.rejected[-1].text) == ("Hello", "What?")


@pytest.mark.parametrize("columns", [{"prompt": "q", "response": "a"}, {"messages": "chat"}])
def test_labels_are_read_from_their_column(columns, opened):
    row = {"q": "Hi", "a": "Hello", "chat": TURNS, "thumbs_up": False, "label": "greeting"}
    example = opened([row], columns | {"label": "thumbs_up"}, method="kto")[0]
    assert texts(example) == [("user", "Hi"), ("assistant", "Hello")]
    assert example.label is False
    with pytest.raises(DatasetError, match='"thumbs_up" is text'):
        opened([row | {"thumbs_up": "no"}], columns | {"label": "thumbs_up"}, method="kto")[0]


def test_prompts_are_read_from_their_column_and_reward_functions_get_the_others(opened):
    row = {"q": "7 - 3?", "result": "4", "answer": "four", "level": 2}
    example = opened([row], {"prompt": "q"}, method="grpo")[0]
    assert texts(example) == [("user", "7 - 3?"), ("assistant", "four")]
    assert example.columns == {"result": "4", "answer": "four", "level": 2}
    example = opened(
        [{"q": "7 - 3?", "result": "4", "level": 2}], {"prompt": "q", "response": "result"}, method="grpo"
    )[0]
    assert example.columns == {"answer": "4", "level": 2}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"q": "Hi"}, 'the row has no "a", which columnMapping.response names (its keys: q); add "a", or correct'),
        ({"q": "Hi", "a": ""}, '"a" is empty; fill it in or remove the row'),
        ({"q": ["Hi"], "a": "b"}, "\"q\" is a list (['Hi']), not text"),
    ],
)
def test_a_problem_names_the_own_column(row, words, opened):
    with pytest.raises(DatasetError) as refused:
        opened([row], {"prompt": "q", "response": "a"})[0]
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("row", "mapping"),
    [
        ({"Question": "Hi", "Answer": "Hello", "id": 3}, {"prompt": "Question", "response": "Answer"}),
        ({"dialog": TURNS}, {"messages": "dialog"}),
        (
            {"query": "What?", "label": "A cat.", "photo": "a.png"},
            {"prompt": "query", "response": "label", "image": "photo"},
        ),
        (
            {"query": "What?", "answer": "A cat.", "pages": ["a.png", "b.png"]},
            {"prompt": "query", "response": "answer", "images": "pages"},
        ),
        ({"a": "Hi", "b": "Hello"}, {}),
    ],
)
def test_a_mapping_is_suggested_from_the_row(row, mapping, opened):
    assert suggested(row) == mapping
    pairs = ", ".join(f"{role}: {column}" for role, column in mapping.items())
    with pytest.raises(DatasetError) as refused:
        opened([row], None, vision=True)[0]
    assert (f"set columnMapping: {{{pairs}}}; or write another format; accepted:" in str(refused.value)) == bool(
        mapping
    )


def test_a_suggestion_is_one_with_which_the_row_is_read(opened):
    own = {"question": "Hi", "solution": "Hello"}
    assert opened([own], None).suggested_columns(0) == {"prompt": "question", "response": "solution"}
    assert opened([own], {"prompt": "question", "response": "id"}).suggested_columns(0) == {}
    assert opened([own | {"solution": ""}], None).suggested_columns(0) == {}
    assert opened([{"messages": TURNS}], None).suggested_columns(0) == {}
    photo = {"question": "What?", "answer": "A cat.", "photo": "a.png"}
    assert opened([photo], None).suggested_columns(0) == {}
    assert opened([photo], None, vision=True).suggested_columns(0)["image"] == "photo"


def test_a_column_that_only_looks_like_a_format_is_mapped_too(opened):
    with pytest.raises(DatasetError, match=r"set columnMapping: \{prompt: prompt, response: answer\}"):
        opened([{"prompt": "Hi", "answer": "Hello"}], None)[0]


def test_a_mapping_for_labels_is_suggested_where_a_column_is_true_or_false(opened):
    row = {"Question": "Hi", "Answer": "Hello", "good": True}
    assert suggested(row, "kto") == {"prompt": "Question", "response": "Answer", "label": "good"}
    assert suggested(row | {"good": "yes"}, "kto") == {}
    with pytest.raises(DatasetError, match=r"set columnMapping: \{prompt: Question, response: Answer, label: good\}"):
        opened([row], None, method="kto")[0]


def test_reward_functions_get_columns_that_other_formats_read_under_their_own_names(opened):
    row = {"q": "7-3?", "label": "4", "response": "4", "system": "unused"}
    examples = opened([row], {"prompt": "q"}, method="grpo")
    assert examples[0].columns == {"label": "4", "response": "4", "system": "unused"}
    assert texts(examples[0]) == [("user", "7-3?"), ("assistant", "4")]
    assert examples.convert(0).ignored == ()
