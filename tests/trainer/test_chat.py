"""What a person says reaches the model as its chat template reads it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from model_garden_trainer.chat import Request, Talker, as_read
from model_garden_trainer.errors import TrainingError

EACH = "{% for message in messages %}{{ message.role }}: BODY;{% endfor %}"
TEXT = EACH.replace("BODY", "{{ message.content }}")
JOINED = EACH.replace("BODY", "{{ '<' + message.content + '>' }}")
PARTS = "{% for part in message.content %}{{ part.text or '<image>' }}{% endfor %}"
ANSWERS_AS_TEXT = EACH.replace(
    "BODY", "{% if message.role == 'user' %}" + PARTS + "{% else %}{{ message.content }}{% endif %}"
)


@pytest.fixture(scope="module")
def processor(tiny_model: Callable[[str], Path]) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(tiny_model("qwen2_5_vl"))


HELLO, IMAGE = {"type": "text", "text": "Hello "}, {"type": "image", "image": Image.new("RGB", (64, 64))}


def said(*turns: tuple[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [{"role": role, "content": parts} for role, parts in turns]


def written(processor: Any, talk: list[dict[str, Any]]) -> str:
    text: str = processor.apply_chat_template(as_read(processor, talk), tokenize=False)
    return text


def test_a_model_that_reads_parts_gets_them(processor: Any) -> None:
    for talk in (said(("user", [HELLO])), said(("user", [IMAGE, HELLO]), ("assistant", [HELLO]), ("user", [HELLO]))):
        assert as_read(processor, talk) == talk


@pytest.mark.parametrize(("template", "turn"), [(TEXT, "user: Hello ;"), (JOINED, "user: <Hello >;")])
def test_a_template_that_reads_text_alone_gets_text(
    processor: Any, monkeypatch: pytest.MonkeyPatch, template: str, turn: str
) -> None:
    monkeypatch.setattr(processor, "chat_template", template)
    assert written(processor, said(("user", [HELLO]))) == turn
    with pytest.raises(TrainingError, match="does not read a conversation with images"):
        as_read(processor, said(("user", [IMAGE, HELLO])))


def test_a_template_that_reads_answers_as_text_gets_them_so_and_keeps_the_images(
    processor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "chat_template", ANSWERS_AS_TEXT)
    for first in ([IMAGE, HELLO], [HELLO]):
        text = written(processor, said(("user", first), ("assistant", [HELLO]), ("user", [HELLO])))
        assert text.replace("<image>", "") == "user: Hello ;assistant: Hello ;user: Hello ;"
        assert text.count("<image>") == len(first) - 1


def test_a_question_that_the_template_does_not_read_is_forgotten(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    model = shutil.copytree(tiny_model("qwen2_5_vl"), tmp_path / "model")
    (model / "chat_template.jinja").write_text(TEXT)
    IMAGE["image"].save(tmp_path / "image.png")
    talker = Talker(Request(str(model), None, [], "tuned", None, 2))
    with pytest.raises(TrainingError, match="does not read a conversation with images"):
        talker.answer("What is it?", [str(tmp_path / "image.png")])
    talker.answer("Hello", [])
