"""Each answer is trained whole and with a token that ends generation, or its row is refused. Needs no model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from model_garden.datasets.chat_format import ChatFormat
from model_garden.datasets.errors import RowError
from model_garden.datasets.example import Example, ImageRef, Message, Role
from model_garden.datasets.origin import Origin
from model_garden.datasets.rendering import Renderer, check_trained, trained_tokens

CHATML = (
    "{% for m in messages %}<|s|>{{ m.role }}\n{{ m.content }}<|e|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|s|>assistant\n{% endif %}"
)
ROLES = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
FORMAT = ChatFormat(
    template=CHATML, end="<|e|>", stops=frozenset({"<|e|>"}), controls=frozenset({"<|s|>", "<|e|>", "<|b|>"})
)
BY_ROLE = replace(
    FORMAT,
    template=ROLES,
    stops=frozenset({"<|e|>", "<|user|>"}),
    controls=frozenset({"<|user|>", "<|assistant|>", "<|e|>"}),
)
TURNS: list[tuple[Role, str]] = [("user", "A color?"), ("assistant", "Blue."), ("user", "More?"), ("assistant", "Red.")]


def chat(*turns: tuple[Role, str]) -> Example:
    return Example("chat", tuple(Message(role, (text,)) for role, text in turns), Origin("rows.jsonl", 1))


def plain(*texts: str) -> Example:
    kind = "text" if len(texts) == 1 else "completion"
    return Example(kind, tuple(Message("user", (text,)) for text in texts), Origin("rows.jsonl", 1))


def trained(chat_format: ChatFormat, example: Example) -> list[str]:
    rendered = Renderer(chat_format)(example)
    return [rendered.text[start:end] for start, end in rendered.spans]


def test_every_answer_is_trained_with_its_end() -> None:
    assert trained(FORMAT, chat(*TURNS)) == ["Blue.<|e|>", "Red.<|e|>"]


@pytest.mark.known_fault(
    "huggingface/trl#5988", "Only the marker of the next turn ends an answer, and the model never stops"
)
@pytest.mark.known_fault(
    "NVIDIA-NeMo/Megatron-Bridge#5361", "Only the marker of the next turn ends an answer, and the model never stops"
)
def test_where_the_next_role_ends_an_answer_its_marker_is_trained_and_the_last_answer_gets_the_end_token() -> None:
    assert trained(BY_ROLE, chat(*TURNS)) == ["Blue.<|user|>", "Red.<|e|>"]


def test_a_template_without_any_end_is_refused() -> None:
    endless = replace(FORMAT, template=ROLES.replace("|", ""), end="", stops=frozenset(), controls=frozenset())
    with pytest.raises(RowError, match="no end token after answer"):
        trained(endless, chat(*TURNS))


def test_a_next_role_whose_marker_does_not_end_generation_is_refused() -> None:
    with pytest.raises(RowError, match="no end token after answer"):
        trained(replace(BY_ROLE, stops=frozenset({"<|e|>"})), chat(*TURNS))


def test_an_end_that_no_file_lists_is_told() -> None:
    assert Renderer(FORMAT).unlisted_end() is None
    assert Renderer(replace(FORMAT, stops=frozenset({"<|b|>"}))).unlisted_end() == "<|e|>"


@pytest.mark.known_fault("huggingface/trl#6766", "The chat template cuts the reasoning out of an answer")
def test_a_template_that_leaves_reasoning_out_refuses_the_row() -> None:
    cuts = "{% for m in messages %}<|s|>{{ m.role }}\n{{ m.content.split('</think>') | last }}<|e|>{% endfor %}"
    with pytest.raises(RowError, match=r"turn 2 \(assistant\) would not be trained as written.*<think>"):
        trained(replace(FORMAT, template=cuts), chat(("user", "A?"), ("assistant", "<think>Hm.</think>B.")))


def test_white_space_that_a_template_strips_is_no_change() -> None:
    strips = CHATML.replace("m.content", "m.content | trim")
    assert trained(replace(FORMAT, template=strips), chat(("user", "A?"), ("assistant", " B. "))) == ["B.<|e|>"]


WRITES_CONTENT = {
    "as it is": "{{ m.content }}",
    "trimmed": "{{ m.content | trim }}",
    "marked": "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|e|>{% endgeneration %}"
    "{% else %}{{ m.content }}{% endif %}",
    "part by part": "{% if m.content is string %}{{ m.content }}{% else %}{{ m.content | join }}{% endif %}",
}


@pytest.mark.parametrize("content", WRITES_CONTENT.values(), ids=WRITES_CONTENT)
def test_a_template_of_texts_trains_the_texts_of_a_model_that_reads_images(content: str) -> None:
    """It would write the list of a turn's parts as Python does, and the model would learn to answer so."""
    template = CHATML.replace("{{ m.content }}", content).replace("<|e|><|e|>", "<|e|>")
    chat_format = replace(FORMAT, template=template, structured=True)
    assert [answer.removesuffix("<|e|>") for answer in trained(chat_format, chat(*TURNS))] == ["Blue.", "Red."]
    text = Renderer(chat_format)(chat(*TURNS)).text
    assert text.startswith("<|s|>user\nA color?<|e|>") and "type" not in text


def test_an_image_that_a_template_of_texts_would_write_as_a_list_is_refused() -> None:
    asked = Message("user", (ImageRef(b""), "A color?"))
    row = replace(chat(*TURNS), messages=(asked, *chat(*TURNS).messages[1:]))
    with pytest.raises(RowError, match=r"writes the parts of message 1 \(user\) as a list"):
        trained(replace(FORMAT, structured=True), row)
    parts = "{% for part in m.content %}{{ part.text or '<|image|>' }}{% endfor %}"
    mixed = CHATML.replace(
        "{{ m.content }}",
        "{% if m.content is string %}{{ m.content }}{% elif m.role == 'user' %}" + parts + "{% endif %}",
    )
    chat_format = replace(FORMAT, template=mixed, structured=True)
    assert trained(chat_format, row) == ["Blue.<|e|>", "Red.<|e|>"]
    assert Renderer(chat_format)(row).text.startswith("<|s|>user\n<|image|>A color?<|e|>\n<|s|>assistant\nBlue.")


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_a_control_token_in_a_turn_is_refused(role: Role) -> None:
    turns: list[tuple[Role, str]] = [("system", "S."), ("user", "A?"), ("assistant", "B.")]
    turns = [(each, text + "<|e|>" if each == role else text) for each, text in turns]
    with pytest.raises(RowError, match=rf"\({role}\) contains <\|e\|>, which is a control token of the model"):
        trained(FORMAT, chat(*turns))


@pytest.mark.known_fault("unslothai/unsloth#2648", "A text that was rendered before gets a second begin and end token")
@pytest.mark.known_fault(
    "huggingface/autotrain-advanced#753", "A text that was rendered before gets a second begin and end token"
)
@pytest.mark.parametrize(
    ("texts", "whole"),
    [
        (("A red square.",), "<|b|>A red square.<|e|>"),
        (("<|b|>A red square.<|e|>",), "<|b|>A red square.<|e|>"),
        (("<|b|>Q: ", "A<|e|>"), "<|b|>Q: A<|e|>"),
        (("Q: ", "A"), "<|b|>Q: A<|e|>"),
    ],
    ids=["plain text", "text rendered before", "prompt and completion rendered before", "plain prompt and completion"],
)
def test_a_row_has_one_begin_and_one_end_token(texts: tuple[str, ...], whole: str) -> None:
    assert Renderer(replace(FORMAT, opening="<|b|>"))(plain(*texts)).text == whole


def test_a_tokenizer_without_an_end_token_is_refused() -> None:
    with pytest.raises(RowError, match="no end-of-text token"):
        trained(replace(FORMAT, end=""), plain("A red square."))


@pytest.mark.known_fault("huggingface/trl#6105", "The token that joins prompt and answer carries no loss")
@pytest.mark.known_fault("areal-project/AReaL#1427", "The token that joins prompt and answer carries no loss")
def test_a_token_that_joins_prompt_and_answer_is_trained() -> None:
    text, spans = "Answer: yes", [(8, 11)]
    offsets = [(0, 6), (6, 7), (7, 11)]  # the space before the answer is part of its token
    carries = trained_tokens(offsets, spans)
    assert carries == [False, False, True]
    check_trained(text, offsets, carries, spans)


def test_characters_without_a_token_are_refused() -> None:
    with pytest.raises(RowError, match="no token for '!' in an answer"):
        check_trained("Q: yes!", [(0, 3), (3, 6)], [False, True], [(3, 7)])


@pytest.mark.known_fault(
    "axolotl-ai-cloud/axolotl#2730", "Of several named templates, another one is taken than at inference"
)
@pytest.mark.known_fault(
    "EleutherAI/lm-evaluation-harness#1578", "Of several named templates, another one is taken than at inference"
)
@pytest.mark.parametrize("layout", ["a list in tokenizer_config.json", "a folder of further templates"])
def test_of_several_named_templates_the_default_is_taken(tmp_path: Path, layout: str) -> None:
    Tokenizer(models.WordLevel({"a": 0, "<e>": 1}, unk_token="a")).save(str(tmp_path / "tokenizer.json"))
    config: dict[str, object] = {"eos_token": "<e>"}
    if layout.startswith("a list"):
        named = [{"name": "tool_use", "template": "TOOLS"}, {"name": "default", "template": CHATML}]
        config["chat_template"] = named
    else:
        (tmp_path / "chat_template.jinja").write_text(CHATML)
        (tmp_path / "additional_chat_templates").mkdir()
        (tmp_path / "additional_chat_templates/tool_use.jinja").write_text("TOOLS")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    found = ChatFormat.load(tmp_path, vision=False)
    assert found.template == CHATML and found.end == "<e>"


def test_the_tokens_that_end_generation_come_from_all_files(tmp_path: Path) -> None:
    vocabulary = {"a": 0, "<e>": 1, "<u>": 2, "<t>": 3}
    Tokenizer(models.WordLevel(vocabulary, unk_token="a")).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<e>"}}))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 2]}))
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"eos_token_id": 3}}))
    assert ChatFormat.load(tmp_path, vision=False).stops == {"<e>", "<u>", "<t>"}


def test_what_only_the_prompt_has_is_told() -> None:
    thinking = replace(FORMAT, template=CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif"))
    assert Renderer(FORMAT)(chat(*TURNS)).other_start() is None
    asked, answered = Renderer(thinking)(chat(*TURNS)).other_start() or ("", "")
    assert asked.endswith("assistant\n<think>\n") and answered.endswith("assistant\nRed.<|e|>\n")
    assert Renderer(thinking)(chat(*TURNS)).prompt.endswith("<|s|>assistant\n<think>\n")
