"""Vision-language models of other makers: each expands a picture in its own way, and answers alone are trained on."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    PixtralImageProcessor,
    PixtralProcessor,
)

from model_garden.datasets.example import Example, ImageRef, Message
from model_garden.datasets.origin import Origin
from model_garden_trainer.batches.collator import IGNORED, Collator

TEMPLATES = importlib.resources.files("trl") / "chat_templates"
PIXTRAL_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST]{% for c in m.content %}{% if c.type == 'image' %}[IMG]"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}[/INST]{% else %}{{ m.content[0].text }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
LANGUAGE = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
SIGHT = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")


@pytest.fixture
def tokenizer(tiny_model: Callable[[str], Path]) -> Callable[..., Any]:
    def with_tokens(*tokens: str) -> Any:
        tokenizer = AutoTokenizer.from_pretrained(tiny_model("qwen2"))
        tokenizer.add_special_tokens({"additional_special_tokens": list(tokens)})
        return tokenizer

    return with_tokens


def gemma3(tokenizer: Callable[..., Any]) -> tuple[Any, Any, str]:
    """A picture's placeholder becomes a block with blank lines around it."""
    made = tokenizer("<start_of_image>", "<end_of_image>", "<image_soft_token>", "<start_of_turn>", "<end_of_turn>")
    for name, token in (("boi", "<start_of_image>"), ("eoi", "<end_of_image>"), ("image", "<image_soft_token>")):
        setattr(made, f"{name}_token", token)
        setattr(made, f"{name}_token_id", made.convert_tokens_to_ids(token))
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessor(size={"height": 56, "width": 56}),
        tokenizer=made,
        chat_template=(TEMPLATES / "gemma3.jinja").read_text(),
        image_seq_length=4,
    )
    config = Gemma3Config(
        text_config=LANGUAGE | {"vocab_size": len(made)},
        vision_config=SIGHT | {"image_size": 56, "patch_size": 14},
        mm_tokens_per_image=4,
        image_token_id=made.image_token_id,
    )
    return processor, Gemma3ForConditionalGeneration(config), "<end_of_turn>"


def idefics3(tokenizer: Callable[..., Any]) -> tuple[Any, Any, str]:
    """SmolVLM too: a picture becomes tiles with rows and columns."""
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    made = tokenizer("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *tiles)
    processor = Idefics3Processor(
        image_processor=Idefics3ImageProcessor(size={"longest_edge": 112}, max_image_size={"longest_edge": 56}),
        tokenizer=made,
        image_seq_len=4,
        chat_template=(TEMPLATES / "idefics3.jinja").read_text(),
    )
    config = Idefics3Config(
        text_config=LANGUAGE | {"model_type": "llama", "vocab_size": len(made), "pad_token_id": 0},
        vision_config=SIGHT | {"image_size": 56, "patch_size": 14},
        scale_factor=2,
        image_token_id=made.convert_tokens_to_ids("<image>"),
    )
    return processor, Idefics3ForConditionalGeneration(config), "<end_of_utterance>"


def pixtral(tokenizer: Callable[..., Any]) -> tuple[Any, Any, str]:
    """A picture becomes rows of patches with breaks between them."""
    made = tokenizer("[IMG]", "[IMG_BREAK]", "[IMG_END]", "[INST]", "[/INST]")
    processor = PixtralProcessor(
        image_processor=PixtralImageProcessor(size={"longest_edge": 64}, patch_size={"height": 16, "width": 16}),
        tokenizer=made,
        patch_size=16,
        chat_template=PIXTRAL_TEMPLATE,
    )
    config = LlavaConfig(
        text_config=LANGUAGE | {"model_type": "mistral", "vocab_size": len(made)},
        vision_config=SIGHT | {"model_type": "pixtral", "image_size": 64, "patch_size": 16, "head_dim": 16},
        image_token_index=made.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    return processor, LlavaForConditionalGeneration(config), "<|im_end|>"


def llava_next(tokenizer: Callable[..., Any]) -> tuple[Any, Any, str]:
    """The number of a picture's tokens depends on its shape."""
    made = tokenizer("<image>", "</s>")
    processor = LlavaNextProcessor(
        image_processor=LlavaNextImageProcessor(
            size={"shortest_edge": 56},
            crop_size={"height": 56, "width": 56},
            image_grid_pinpoints=[[56, 112], [112, 56]],
        ),
        tokenizer=made,
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=(TEMPLATES / "llava_next.jinja").read_text(),
        num_additional_image_tokens=1,
    )
    config = LlavaNextConfig(
        text_config=LANGUAGE | {"model_type": "llama", "vocab_size": len(made)},
        vision_config=SIGHT | {"model_type": "clip_vision_model", "image_size": 56, "patch_size": 14},
        image_token_index=made.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=[[56, 112], [112, 56]],
    )
    return processor, LlavaNextForConditionalGeneration(config), "</s>"


@pytest.mark.parametrize("family", [gemma3, idefics3, pixtral, llava_next])
def test_answers_alone_are_trained_on_and_the_model_takes_the_batch(
    tokenizer: Callable[..., Any], tmp_path: Path, family: Callable[..., tuple[Any, Any, str]]
) -> None:
    path = tmp_path / "red.png"
    Image.new("RGB", (120, 80), "red").save(path)
    red = ImageRef(path)
    turns = [
        Message("user", (red, "and", red, "Same?")),
        Message("assistant", ("Yes.",)),
        Message("user", ("And this?", red)),
        Message("assistant", ("Too.",)),
    ]
    rows = [
        Example("chat", tuple(turns), Origin("f", 1)),
        Example("chat", (Message("user", (red, "Colour?")), Message("assistant", ("Red.",))), Origin("f", 2)),
    ]
    processor, model, end = family(tokenizer)
    processor.save_pretrained(tmp_path / "model")
    processor.tokenizer.name_or_path = str(tmp_path / "model")
    encoder = Collator(processor, vision=True)
    batch = encoder(rows)
    spoken = [
        encoder.tokenizer.decode(ids[labels != IGNORED]).replace(" ", "").replace("\n", "")
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True)
    ]
    assert spoken == [f"Yes.{end}Too.{end}", f"Red.{end}"]
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    with torch.inference_mode():
        logits = model.eval()(**inputs).logits
    assert logits.shape[:2] == batch["input_ids"].shape and bool(torch.isfinite(logits).all())
