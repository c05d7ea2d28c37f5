"""Tool calls, their results, definitions of tools and reasoning are read from each form in which people write them."""

import json

import pytest
from datasets import Dataset

from model_garden.datasets import open_examples
from model_garden.datasets.convert import convert
from model_garden.datasets.errors import RowError
from model_garden.datasets.example import Details, ToolCall
from model_garden.datasets.locate import Locator
from model_garden.datasets.origin import Origin

ARGUMENTS = {"city": "Paris", "days": 2}
CALL = ToolCall("weather", ARGUMENTS, "1")
ANONYMOUS = ToolCall("weather", ARGUMENTS)
TEXT = json.dumps(ARGUMENTS)
QUESTION = {"role": "user", "content": "Weather?"}
RESULT = {"role": "tool", "content": "20", "tool_call_id": "1", "name": "weather"}
FINAL = {"role": "assistant", "content": "It is 20."}


def read(row, tmp_path, *, vision=False):
    return convert(row, Origin("data.jsonl", 7), Locator(tmp_path), vision=vision).example


def openai(call, content=None):
    return {"messages": [QUESTION, {"role": "assistant", "content": content} | call, RESULT, FINAL]}


def sharegpt(*turns):
    return {"conversations": [{"from": speaker, "value": value} for speaker, value in turns]}


def as_call(arguments):
    return {"id": "1", "type": "function", "function": {"name": "weather", "arguments": arguments}}


CALLS = {
    "OpenAI, arguments as text": (openai({"tool_calls": [as_call(TEXT)]}), CALL),
    "OpenAI, arguments as an object": (openai({"tool_calls": [as_call(ARGUMENTS)]}), CALL),
    "OpenAI, empty content": (openai({"tool_calls": [as_call(TEXT)]}, content=""), CALL),
    "a flat call": (openai({"tool_calls": [{"name": "weather", "arguments": ARGUMENTS}]}), ANONYMOUS),
    "OpenAI's older form": (openai({"function_call": {"name": "weather", "arguments": TEXT}}), ANONYMOUS),
    "ShareGPT": (
        sharegpt(
            ("human", "Weather?"),
            ("function_call", json.dumps({"name": "weather", "arguments": ARGUMENTS})),
            ("observation", "20"),
            ("gpt", "It is 20."),
        ),
        ANONYMOUS,
    ),
    "ms-swift": (
        {
            "messages": [
                QUESTION,
                {"role": "tool_call", "content": json.dumps({"name": "weather", "arguments": ARGUMENTS})},
                {"role": "tool_response", "content": "20"},
                FINAL,
            ]
        },
        ANONYMOUS,
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_tool_call_and_its_result_are_read(name, tmp_path):
    row, call = CALLS[name]
    question, asked, result, answer = read(row, tmp_path).messages
    assert [message.role for message in (question, asked, result, answer)] == ["user", "assistant", "tool", "assistant"]
    assert asked.details.tool_calls == (call,)
    assert (asked.text, result.text, answer.text) == ("", "20", "It is 20.")
    assert answer.details == Details()


def test_the_result_keeps_the_name_and_the_id_of_the_call(tmp_path):
    result = read(CALLS["OpenAI, arguments as text"][0], tmp_path).messages[2]
    assert (result.details.name, result.details.call_id) == ("weather", "1")


@pytest.mark.known_fault("huggingface/trl#3223", "Two turns of one role after another end the mask too early")
def test_words_and_calls_that_follow_each_other_are_one_turn(tmp_path):
    call = json.dumps({"name": "weather", "arguments": {}})
    turns = [("human", "?"), ("gpt", "I look."), ("function_call", call), ("function_call", call)]
    row = sharegpt(*turns, ("observation", "20"), ("gpt", "20."))
    asked = read(row, tmp_path).messages[1]
    assert asked.text == "I look."
    assert asked.details.tool_calls == (ToolCall("weather", {}),) * 2


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    "columns",
    [
        {"tools": [TOOL]},
        {"tools": json.dumps([TOOL])},
        {"tools": [TOOL["function"]]},
        {"functions": [TOOL["function"]]},
    ],
    ids=["OpenAI", "JSON text (LLaMA-Factory)", "without a type", "OpenAI's older form"],
)
def test_definitions_of_tools_have_one_form(columns, tmp_path):
    assert read({"messages": [QUESTION, FINAL]} | columns, tmp_path).tools == (TOOL,)


@pytest.mark.known_fault("vllm-project/vllm#27755", "Reasoning in a key of its own is dropped")
@pytest.mark.known_fault("fw-ai/cookbook#378", "Reasoning in a key of its own is dropped")
@pytest.mark.parametrize(
    "row",
    [
        {"messages": [QUESTION, FINAL | {"reasoning_content": "Hm."}]},
        {"messages": [QUESTION, FINAL | {"reasoning": "Hm."}]},
        {"messages": [QUESTION, FINAL | {"reasoning": "Hm.", "reasoning_content": "Hm."}]},
        {"messages": [QUESTION, FINAL | {"thinking": "Hm.", "reasoning": ""}]},
        {"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "20", "thoughts": "Hm."}]},
        {"instruction": "?", "output": "20", "cot": "Hm."},
    ],
)
def test_reasoning_is_read_under_each_of_its_names(row, tmp_path):
    assert read(row, tmp_path).messages[1].details.reasoning == "Hm."


def test_reasoning_in_two_places_is_refused(tmp_path):
    row = {"prompt": [QUESTION], "completion": [FINAL | {"reasoning": "Hm."}], "reasoning": "Well."}
    with pytest.raises(RowError, match='the row has "reasoning", and its answer has reasoning too; keep one'):
        read(row, tmp_path)


def test_a_developer_turn_is_a_system_turn(tmp_path):
    row = {"messages": [{"role": "developer", "content": "Be brief."}, QUESTION, FINAL]}
    assert read(row, tmp_path).messages[0].role == "system"


@pytest.mark.parametrize("column", ["messages", "conversations"])
def test_turns_of_either_shape_are_read_in_either_column(column, tmp_path):
    openai_turns = [QUESTION, FINAL]
    sharegpt_turns = [{"from": "human", "value": "Weather?"}, {"from": "gpt", "value": "It is 20."}]
    assert read({column: openai_turns}, tmp_path) == read({column: sharegpt_turns}, tmp_path)


def test_answers_in_a_prompt_of_messages_carry_no_loss(tmp_path):
    row = {"prompt": [QUESTION, FINAL, QUESTION], "completion": [FINAL]}
    assert [message.answers for message in read(row, tmp_path).messages] == [False, False, False, True]


@pytest.mark.known_fault("modelscope/ms-swift#10110", "Tools and calls get the arguments of other tools as nulls")
@pytest.mark.known_fault("modelscope/ms-swift#10125", "Tools and calls get the arguments of other tools as nulls")
def test_parquet_adds_no_arguments_of_other_calls(tmp_path):
    calls = [as_call({"city": "Paris"}), as_call({"days": 2})]
    rows = [{"messages": [QUESTION, {"role": "assistant", "content": "", "tool_calls": [call]}]} for call in calls]
    Dataset.from_list(rows).to_parquet(tmp_path / "calls.parquet")
    found = [
        example.messages[1].details.tool_calls for example in open_examples(tmp_path / "calls.parquet", vision=False)
    ]
    assert [call.arguments for (call,) in found] == [{"city": "Paris"}, {"days": 2}]


def test_a_null_that_a_json_file_has_is_kept(tmp_path):
    (tmp_path / "calls.jsonl").write_text(json.dumps(openai({"tool_calls": [as_call({"city": None})]})) + "\n")
    (example,) = open_examples(tmp_path / "calls.jsonl", vision=False)
    assert example.messages[1].details.tool_calls[0].arguments == {"city": None}
