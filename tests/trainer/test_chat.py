"""What a person says reaches the model as its chat template reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from model_garden_trainer.chat import as_read
from model_garden_trainer.errors import TrainingError

TEXT_ALONE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"


@pytest.fixture(scope="module")
def processor(tiny_model: Callable[[str], Path]) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(tiny_model("qwen2_5_vl"))


def said(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def test_a_template_that_reads_text_alone_gets_text(processor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hello, image = {"type": "text", "text": "Hello"}, {"type": "image", "image": Image.new("RGB", (64, 64))}
    for talk in (said(hello), said(image, hello)):
        assert as_read(processor, talk) == talk
    monkeypatch.setattr(processor, "chat_template", TEXT_ALONE)
    assert as_read(processor, said(hello)) == [{"role": "user", "content": "Hello"}]
    with pytest.raises(TrainingError, match=r"reads text alone, so the model cannot be asked about images"):
        as_read(processor, said(image, hello))
