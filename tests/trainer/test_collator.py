"""Which tokens are trained on: answers and nothing else, for every chat template, with pictures and without."""

from __future__ import annotations

import importlib.resources
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, AutoTokenizer

from model_garden.datasets.chat_format import ChatFormat
from model_garden.datasets.example import Example, ImageRef, Message, Role
from model_garden.datasets.origin import Origin
from model_garden.datasets.rendering import Renderer
from model_garden_trainer.batches.collator import IGNORED, Collator
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.models.base_model import carry_processor_files

ANSWERS = ("Seven apples, no more.", "No pears at all.")
ORIGIN = Origin("rows.jsonl", 7)
TEMPLATES = importlib.resources.files("trl") / "chat_templates"
END_TOKENS = {"glm4moe.jinja": {"<|user|>"}, "gptoss.jinja": {"<|end|>", "<|return|>"}}
"""What these templates write after an answer, taken as end tokens here so that both answers are found."""
CONVERSATION = [
    ("user", "How many apples?"),
    ("assistant", "Seven apples, no more."),
    ("user", "And pears?"),
    ("assistant", "No pears at all."),
]


def chat(*turns: tuple[Role, str | ImageRef | tuple[str | ImageRef, ...]]) -> Example:
    messages = tuple(Message(role, part if isinstance(part, tuple) else (part,)) for role, part in turns)
    return Example("chat", messages, ORIGIN)


def plain(kind: Any, *texts: str) -> Example:
    return Example(kind, tuple(Message("user", (text,)) for text in texts), ORIGIN)


def trained(encoder: Collator, example: Example) -> str:
    """The text that carries loss in a row."""
    batch = encoder([example])
    return str(encoder.tokenizer.decode(batch["input_ids"][0][batch["labels"][0] != IGNORED]))


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Callable[[str], Path]) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model("qwen2"))


@pytest.fixture
def text(tokenizer: Any) -> Collator:
    return Collator(tokenizer, vision=False)


@pytest.fixture
def vision(tiny_model: Callable[[str], Path]) -> Collator:
    return Collator(AutoProcessor.from_pretrained(tiny_model("qwen2_5_vl")), vision=True)


@pytest.fixture
def picture(tmp_path: Path) -> ImageRef:
    path = tmp_path / "red.png"
    Image.new("RGB", (56, 56), "red").save(path)
    return ImageRef(path)


@pytest.mark.known_fault("MervinPraison/PraisonAI#4358", "Questions carry loss although answers alone were asked for")
def test_every_answer_of_a_conversation_is_trained_on_with_its_end_and_nothing_else(text: Collator) -> None:
    example = chat(("system", "Be brief."), *CONVERSATION)  # type: ignore[arg-type]
    assert trained(text, example) == "Seven apples, no more.<|im_end|>No pears at all.<|im_end|>"


@pytest.mark.parametrize(
    "name",
    sorted(path.name for path in TEMPLATES.iterdir() if path.name.endswith(".jinja") and "diffusion" not in path.name),
)
def test_the_answers_are_found_in_every_known_chat_template(tiny_model: Callable[[str], Path], name: str) -> None:
    known = ChatFormat.load(tiny_model("llama"), vision=False)
    structured = name.startswith(("idefics", "llava"))  # their content is a list of parts
    chat_format = replace(known, template=(TEMPLATES / name).read_text(), structured=structured)
    chat_format = replace(
        chat_format,
        controls=known.controls | set(re.findall(r"<[^<> ]+>", chat_format.template)),
        stops=known.stops | END_TOKENS.get(name, set()),
    )
    rendered = Renderer(chat_format)(chat(*CONVERSATION))  # type: ignore[arg-type]
    spans = [rendered.text[start:end] for start, end in rendered.spans]
    assert all(answer in span for answer, span in zip(ANSWERS, spans, strict=False))
    assert not any("How many" in span or "And pears" in span for span in spans)
    assert sum(map(len, spans)) < 180, spans  # the answers, their markers and an empty thought at most
    twin = TEMPLATES / name.replace(".jinja", "_training.jinja")
    if twin.is_file():  # the same template with its answers marked: nothing but what is marked was found
        marked = Renderer(replace(chat_format, template=twin.read_text()))(chat(*CONVERSATION))  # type: ignore[arg-type]
        whole = "".join(marked.text[start:end] for start, end in marked.spans)
        assert all(span.removesuffix("<|eot_id|>").strip() in whole for span in spans), (spans, whole)


def test_a_completion_is_trained_on_and_its_prompt_is_not(text: Collator) -> None:
    assert trained(text, plain("completion", "Once upon", " a time.")) == " a time.<|im_end|>"
    assert trained(text, plain("text", "Once upon a time.")).endswith("upon a time.<|im_end|>")


def test_training_on_all_leaves_out_pictures_and_padding_alone(
    tiny_model: Callable[[str], Path], picture: ImageRef
) -> None:
    vision = Collator(AutoProcessor.from_pretrained(tiny_model("qwen2_5_vl")), vision=True, train_on="all")
    short, long = chat(("user", "Hi"), ("assistant", "Ho")), chat(("user", (picture, "Colour?")), ("assistant", "Red."))
    batch = vision([short, long])
    pad = batch["attention_mask"] == 0
    names = vision.tokenizer.convert_ids_to_tokens
    left_out = {
        token
        for row in range(2)
        for token in names(batch["input_ids"][row][(batch["labels"][row] == IGNORED) & ~pad[row]])
    }
    assert left_out == {"<|im_start|>", "<|image_pad|>", "<|vision_start|>", "<|vision_end|>"}
    assert bool(pad.any()) and bool((batch["labels"][pad] == IGNORED).all())
    assert int((batch["labels"][0] == IGNORED)[~pad[0]].sum()) == 1  # the first token alone, which nothing predicts


def test_all_pictures_and_turns_of_a_row_reach_the_model(vision: Collator, picture: ImageRef) -> None:
    example = chat(
        ("system", "Look well."),
        ("user", (picture, "and", picture, "Same?")),
        ("assistant", "Yes."),
        ("user", ("And this?", picture)),
        ("assistant", "Too."),
    )
    batch = vision([example])
    assert trained(vision, example) == "Yes.<|im_end|>Too.<|im_end|>"
    assert batch["image_grid_thw"].tolist() == [[1, 4, 4]] * 3
    image_pad = vision.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert int((batch["input_ids"] == image_pad).sum()) == 3 * 4


def test_rows_with_and_without_pictures_share_a_batch(vision: Collator, picture: ImageRef) -> None:
    rows = [chat(("user", "Hi"), ("assistant", "Hello.")), chat(("user", (picture, "?")), ("assistant", "Red."))]
    batch = vision(rows)
    for row, answer in enumerate(("Hello.<|im_end|>", "Red.<|im_end|>")):
        assert vision.tokenizer.decode(batch["input_ids"][row][batch["labels"][row] != IGNORED]) == answer
    assert trained(vision, rows[0]) == "Hello.<|im_end|>"


def test_a_row_that_writes_a_picture_placeholder_is_named(vision: Collator, picture: ImageRef) -> None:
    words = r"rows.jsonl row 7: turn 1 \(user\) contains <\|image_pad\|>, which is a control token of the model"
    with pytest.raises(TrainingError, match=words) as raised:
        vision([chat(("user", (picture, "what is <|image_pad|>?")), ("assistant", "A token."))])
    assert raised.value.exit_code == 3


def test_a_template_that_refuses_a_row_is_quoted(text: Collator) -> None:
    text.renderer = Renderer(replace(text.renderer.format, template="{{ raise_exception('roles must alternate') }}"))
    with pytest.raises(TrainingError, match="row 7: the model's chat template refuses the row: 'roles must alternate'"):
        text([chat(("user", "Hi"), ("assistant", "Ho"))])


def test_a_model_without_a_chat_template_trains_on_plain_rows_only(text: Collator) -> None:
    text.renderer = Renderer(replace(text.renderer.format, template=None))
    assert trained(text, plain("completion", "Once", " more")) == " more<|im_end|>"
    with pytest.raises(TrainingError, match="has no chat template") as raised:
        text([chat(("user", "Hi"), ("assistant", "Ho"))])
    assert raised.value.exit_code == 3


def test_selective_loss_leaves_values_and_evaluation_leaves_all(tokenizer: Any) -> None:
    encoder = Collator(tokenizer, vision=False, selective_loss="aggressive")
    example = chat(("user", "?"), ("assistant", '{"name": "Ada"}'))
    assert '"Ada"' in trained(encoder, example) and "name" not in trained(encoder, example)
    assert trained(encoder.for_evaluation(), example) == '{"name": "Ada"}<|im_end|>'


@pytest.mark.parametrize("level", ["conservative", "moderate", "aggressive"])
def test_selective_loss_gives_a_row_the_same_labels_alone_and_in_a_batch(tokenizer: Any, level: Any) -> None:
    encoder = Collator(tokenizer, vision=False, selective_loss=level)
    rows = [chat(("user", "?"), ("assistant", answer)) for answer in ('{"name": "Ada", "born": null}', '{"a": 1}')]
    batch = encoder(rows)
    for row, example in enumerate(rows):
        alone = encoder([example])["labels"][0]
        assert batch["labels"][row, : len(alone)].tolist() == alone.tolist()


def test_a_llama_row_begins_with_one_bos(tiny_model: Callable[[str], Path]) -> None:
    encoder = Collator(AutoTokenizer.from_pretrained(tiny_model("llama")), vision=False)
    for example in (chat(("user", "Hi"), ("assistant", "Ho")), plain("completion", "Once", " more")):
        ids = encoder([example])["input_ids"][0]
        assert int((ids == encoder.tokenizer.bos_token_id).sum()) <= 1
    assert trained(encoder, chat(("user", "Hi"), ("assistant", "Ho"))) == "Ho<|eot_id|>"


def test_a_batch_holds_no_decoded_picture(vision: Collator, picture: ImageRef) -> None:
    batch = vision([chat(("user", (picture, "?")), ("assistant", "Red."))])
    assert all(isinstance(value, torch.Tensor) for value in batch.values())


def test_a_named_chat_template_renders_the_rows_and_goes_with_the_output(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    model, own = tiny_model("qwen2"), tmp_path / "own.jinja"
    own.write_text((model / "chat_template.jinja").read_text().replace("helpful", "careful"))
    turns = (Message("user", ("Hi",)), Message("assistant", ("Hello",)))
    encoder = Collator(AutoTokenizer.from_pretrained(model), vision=False, template=str(own))
    assert "careful" in encoder.render(Example("chat", turns, Origin("rows.jsonl", 1))).text
    assert encoder.tokenizer.chat_template == own.read_text()
    (tmp_path / "output").mkdir()
    carry_processor_files(model, tmp_path / "output", str(own))
    assert AutoTokenizer.from_pretrained(tmp_path / "output").chat_template == own.read_text()


@pytest.mark.parametrize("chosen", [True, False])
def test_the_output_holds_the_template_of_the_job_alone_wherever_a_program_looks_for_it(
    tiny_model: Callable[[str], Path], tmp_path: Path, chosen: bool
) -> None:
    """transformers prefers chat_template.jinja, llama.cpp the chat_template of tokenizer_config.json."""
    model, own, output = tmp_path / "model", tmp_path / "own.jinja", tmp_path / "output"
    shutil.copytree(tiny_model("qwen2"), model)
    own.write_text("{{ messages[0].content }}")
    settings = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": "old"}))
    (model / "chat_template.json").write_text(json.dumps({"chat_template": "old"}))
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates/tool_use.jinja").write_text("old, with tools")
    if chosen:
        (model / "chat_template.jinja").unlink()
    else:
        (model / "chat_template.jinja").write_text(own.read_text())
    output.mkdir()
    carry_processor_files(model, output, str(own) if chosen else None)
    assert json.loads((output / "tokenizer_config.json").read_text()) == settings
    assert (output / "chat_template.jinja").read_text() == own.read_text()
    assert not (output / "chat_template.json").exists()
    assert (output / "additional_chat_templates").exists() is not chosen  # other templates of the model
