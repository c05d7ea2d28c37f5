"""Real chat templates, as TRL keeps them: each answer is trained whole with its reasoning, its tool calls and its end,
and nothing else is, or the row is refused."""

import json
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from model_garden.datasets.chat_format import ChatFormat
from model_garden.datasets.chat_templates import UnknownTemplate, read_template
from model_garden.datasets.convert import convert
from model_garden.datasets.errors import RowError
from model_garden.datasets.kept import bare
from model_garden.datasets.locate import Locator
from model_garden.datasets.origin import Origin
from model_garden.datasets.rendering import Renderer
from model_garden.datasets.template_messages import chat_messages

FOLDER = Path(find_spec("trl").origin).parent / "chat_templates"
TEMPLATES = sorted(path.stem for path in FOLDER.glob("*.jinja"))
CONTROL = re.compile(r"<\|[\w-]+\|>|<end_of_turn>|<end_of_utterance>|<turn\|>|</s>|<｜[\w▁]+｜>")
STOP = re.compile(
    r"im_end|eot|eom|</s>|utterance|\|end\||call\||return|end_of_turn|END_OF_TURN|turn\||end▁of▁sentence|\|user|observation"
)
STRUCTURED = ("idefics3", "idefics3_training", "llava_next", "llava_next_training")

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "A city."}}},
        },
    }
]
CALL = {
    "id": "abcdefghi",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Zürich \\"HB\\""}'},
}
RESULT = {"role": "tool", "tool_call_id": "abcdefghi", "name": "weather", "content": "21 degrees"}


def user(text):
    return {"role": "user", "content": text}


def answer(text, **more):
    return {"role": "assistant", "content": text} | more


ROWS = {
    "answers": {"messages": [user("One?"), answer("First."), user("Two?"), answer("Second.")]},
    "reasoning": {"messages": [user("One?"), answer("First.", reasoning="Because of one.")]},
    "reasoning of two turns": {
        "messages": [
            user("One?"),
            answer("First.", reasoning="Because of one."),
            user("Two?"),
            answer("Second.", reasoning="Because of two."),
        ]
    },
    "an answer that is not trained": {
        "messages": [user("One?"), answer("Wrong.", weight=0), user("Two?"), answer("Second.")]
    },
    "a call": {"messages": [user("One?"), answer(None, tool_calls=[CALL]), RESULT, answer("Warm.")], "tools": TOOLS},
    "a call with reasoning": {
        "messages": [
            user("One?"),
            answer(None, tool_calls=[CALL], reasoning="I ask."),
            RESULT,
            answer("Warm.", reasoning="Now I know."),
        ],
        "tools": TOOLS,
    },
}
"""Rows; of each, ``expected`` are the texts of each answer."""

TRAINED = {
    "answers": {*TEMPLATES},
    "reasoning": {
        "qwen3",
        "qwen3_5_think",
        "qwen3_8",
        "glm4moe",
        "gptoss",
        "lfm2_2_5",
        "nemotron_3_nano",
        "muse_glimmer",
    },
    "reasoning of two turns": {"qwen3_training", "qwen3_5_think_training", "qwen3_8", "muse_glimmer"},
    "an answer that is not trained": {*TEMPLATES},
    "a call": {
        "qwen2_5",
        "qwen3",
        "qwen3_5_think",
        "glm4moe",
        "gptoss",
        "lfm2_2_5",
        "llama3_1",
        "deepseekv3",
        "qwen3_vl",
    },
    "a call with reasoning": {"qwen3", "qwen3_5_think", "glm4moe", "lfm2_2_5", "nemotron_3_nano"},
}
"""Templates that keep all of a row."""


def chat_format(name):
    template = (FOLDER / f"{name}.jinja").read_text()
    controls = frozenset(CONTROL.findall(template)) | {"<EOS>"}
    return ChatFormat(
        template=template,
        special_tokens={"bos_token": "<BOS>", "eos_token": "<EOS>"},
        end="<EOS>",
        stops=frozenset(token for token in controls if STOP.search(token)) | {"<EOS>"},
        controls=controls,
        structured=name in STRUCTURED,
    )


def rendered(name, row, tmp_path):
    example = convert(ROWS[row], Origin("rows.jsonl", 1), Locator(tmp_path), vision=name in STRUCTURED).example
    return example, Renderer(chat_format(name))(example)


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_row_is_trained_whole_or_refused(name, tmp_path):
    for row in ROWS:
        check_trained_or_refused(name, row, tmp_path)


def check_trained_or_refused(name, row, tmp_path):
    try:
        example, found = rendered(name, row, tmp_path)
    except RowError as refused:
        assert name not in TRAINED[row], str(refused)
        return
    spans = [found.text[start:end] for start, end in found.spans]
    answers = [message for message in example.messages if message.answers]
    assert len(spans) == len(answers)
    for message, span in zip(answers, spans, strict=True):
        for part in (message.text, message.details.reasoning, *(call.name for call in message.details.tool_calls)):
            assert bare(part) in bare(span)
        assert STOP.search(span[-20:]) or span.endswith("<EOS>")
        assert span == span.rstrip()
    outside = "".join(
        found.text[end:start]
        for (_, end), (start, _) in zip([(0, 0), *found.spans], [*found.spans, (len(found.text), 0)], strict=True)
    )
    for text in ("First.", "Second.", "Warm.", "Because of", "I ask.", "Zürich"):
        assert bare(text) not in bare(outside)
    for text in ("One?", "Two?", "Wrong.", "21 degrees", "The weather of"):
        assert bare(text) not in bare("".join(spans))


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_prompt_is_what_a_server_sends_whatever_the_template_marks_as_the_answer(name, tmp_path):
    example, found = rendered(name, "answers", tmp_path)
    chat = chat_messages(example, structured=name in STRUCTURED, template="", arguments_as_text=False)[:-1]
    template = chat_format(name)
    options = {"chat_template": template.template, **template.special_tokens}
    assert found.prompt == render_jinja_template([chat], add_generation_prompt=True, **options)[0][0]
    assert not found.prompt.rstrip().endswith("Two?"), "what begins an answer belongs to the prompt"


def test_a_template_that_begins_answers_otherwise_than_it_ends_prompts_is_told(tmp_path):
    told = {name for name in TEMPLATES if rendered(name, "answers", tmp_path)[1].other_start()}
    nemotron = {f"nemotron_3_{size}" for size in ("5_lightning", "nano", "super", "ultra")}
    assert {name.removesuffix("_training") for name in told} == {"deepseek_r1_distill", "deepseekv3", *nemotron}
    assert not rendered("nemotron_3_nano", "reasoning", tmp_path)[1].other_start()


@pytest.mark.parametrize(
    ("name", "row"),
    [
        (name, "answers")
        for name in ("llama3", "llama3_training", "lfm2_training", "qwen2_5", "qwen3_training", "gptoss")
    ]
    + [(name, "a call") for name in ("llama3_1", "qwen2_5", "qwen3")],
)
def test_a_template_of_a_text_model_trains_the_same_text_on_a_model_that_reads_images(name, row, tmp_path):
    """Of the parts of a turn, these write a list as Python or as JSON does, or nothing, or they fail."""
    example, text = rendered(name, row, tmp_path)
    assert Renderer(replace(chat_format(name), structured=True))(example) == text


def test_reasoning_that_an_earlier_turn_loses_is_refused_with_the_ways_out(tmp_path):
    with pytest.raises(RowError) as refused:
        rendered("qwen3", "reasoning of two turns", tmp_path)
    assert str(refused.value) == (
        "turn 2 (assistant) would not be trained as written: the model's chat template leaves out its reasoning "
        "'Because of one.' and renders 'First.<|im_end|>'; set chatTemplate: "
        "trl/qwen3_training, which keeps it; or use a model or chatTemplate that keeps the reasoning of "
        'this turn; or write it into the content, or remove it; or, in an earlier turn, write "weight": 0, or split '
        "the row after that answer"
    )


@pytest.mark.parametrize("name", ["gptoss", "gptoss_training"])
def test_an_answer_that_ends_with_a_token_after_which_generation_goes_on_is_refused(name, tmp_path):
    """A model of gpt-oss stops at <|return|>. Its template ends the earlier turns of a conversation with <|end|>."""
    example = convert(ROWS["answers"], Origin("rows.jsonl", 1), Locator(tmp_path), vision=False).example
    known = replace(chat_format(name), stops=frozenset({"<|return|>", "<|call|>"}))
    with pytest.raises(RowError, match=r'no end token after answer 1 of 2 .*; split the row .* or write "weight": 0'):
        Renderer(known)(example)


def test_a_template_for_training_is_named_only_where_it_trains_the_row(tmp_path):
    for name in ("qwen3_5_think", "qwen3_6"):
        with pytest.raises(RowError, match=f"set chatTemplate: trl/{name}_training, which keeps it; or"):
            rendered(name, "reasoning of two turns", tmp_path)
        rendered(f"{name}_training", "reasoning of two turns", tmp_path)
    with pytest.raises(RowError) as refused:
        rendered("qwen2_5", "reasoning", tmp_path)
    assert "trl/" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "row", "words"),
    [
        ("phi3_5", "a call", "does not write 'weather' of the tool call 'weather'"),
        ("qwen2_5", "reasoning", "leaves out its reasoning 'Because of one.'"),
        ("gemma3", "a call", "the model's chat template refuses the row: 'Conversation roles must alternate"),
    ],
)
def test_what_a_template_leaves_out_is_named(name, row, words, tmp_path):
    with pytest.raises(RowError, match=re.escape(words)):
        rendered(name, row, tmp_path)


@pytest.fixture
def model(tmp_path):
    """A model with the templates default and rag in its config, and tool_use in a file of its own."""
    named = [{"name": "default", "template": "DEFAULT"}, {"name": "rag", "template": "RAG"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates/tool_use.jinja").write_text("TOOLS")
    (tmp_path / "own.jinja").write_text("OWN")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text"), [(None, "DEFAULT"), ("default", "DEFAULT"), ("rag", "RAG"), ("tool_use", "TOOLS")]
)
def test_a_template_of_the_model_is_chosen_by_its_name(name, text, model):
    assert read_template(model, name) == text


def test_a_template_may_be_a_file_or_one_of_trl(model):
    assert read_template(model, str(model / "own.jinja")) == "OWN"
    assert read_template(model, "trl/qwen3_training") == (FOLDER / "qwen3_training.jinja").read_text()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tools", "spec.chatTemplate: the model has no chat template 'tools' (it has default, rag, tool_use); use one"),
        ("none.jinja", "spec.chatTemplate: none.jinja cannot be read (No such file or directory); a relative path"),
        ("trl/none", "spec.chatTemplate: TRL has no chat template trl/none; it has trl/cohere2_training"),
        ("trl/../README", "spec.chatTemplate: TRL has no chat template"),
    ],
)
def test_an_unknown_template_is_refused_with_the_known_ones(name, words, model):
    with pytest.raises(UnknownTemplate, match=re.escape(words)):
        read_template(model, name)
