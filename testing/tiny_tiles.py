"""Makers of tiny models that cut an image into tiles, and the special tokens of their families."""

from __future__ import annotations

from typing import Any

import transformers as hf

from testing.tiny_models import chat_template
from testing.tiny_parts import (
    CHATML,
    LLAMA4_TEMPLATE,
    LLAMA_TEMPLATE,
    SIGHT,
    SMOLVLM,
    Tokens,
    language,
    linear_attention,
    token_id,
    with_images,
)

_TILES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5))
IDEFICS = Tokens(
    "<end_of_utterance>",
    ("<|im_start|>", "<fake_token_around_image>", "<image>", "<global-img>", *_TILES),
    begin="<|begin_of_text|>",
)


def idefics3(tokenizer: Any) -> tuple[dict[str, Any], Any]:
    """Config and processor."""
    return _tiled(tokenizer), hf.Idefics3Processor(
        image_processor=hf.Idefics3ImageProcessor(size={"longest_edge": 112}, max_image_size={"longest_edge": 56}),
        tokenizer=tokenizer,
        image_seq_len=4,
        chat_template=chat_template("idefics3"),
    )


def smolvlm(tokenizer: Any) -> tuple[dict[str, Any], Any]:
    """Config and processor."""
    return _tiled(tokenizer), hf.SmolVLMProcessor(
        image_processor=hf.SmolVLMImageProcessor(size={"longest_edge": 112}, max_image_size={"longest_edge": 56}),
        tokenizer=tokenizer,
        video_processor=hf.SmolVLMVideoProcessor(),
        image_seq_len=4,
        chat_template=SMOLVLM,
    )


def _tiled(tokenizer: Any) -> dict[str, Any]:
    return {
        "text_config": language(tokenizer, model_type="llama"),
        "vision_config": SIGHT | {"image_size": 56, "patch_size": 14},
        "scale_factor": 2,
        "image_token_id": token_id(tokenizer, "<image>"),
        "pad_token_id": tokenizer.pad_token_id,
    }


INTERNVL = Tokens(
    "<|im_end|>",
    ("<|im_start|>",),
    named={
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    },
)


def internvl(tokenizer: Any) -> tuple[dict[str, Any], Any]:
    """Config and processor."""
    config = {
        "text_config": language(tokenizer, model_type="qwen3"),
        "vision_config": SIGHT | {"image_size": [56, 56], "patch_size": [14, 14]},
        "image_token_id": tokenizer.context_image_token_id,
        "image_seq_length": 4,
        "tie_word_embeddings": False,
    }
    return config, hf.InternVLProcessor(
        image_processor=hf.GotOcr2ImageProcessor(size={"height": 56, "width": 56}, crop_to_patches=False),
        tokenizer=tokenizer,
        video_processor=hf.InternVLVideoProcessor(),
        image_seq_length=4,
        chat_template=with_images(CHATML, "<IMG_CONTEXT>\n"),
    )


LLAMA = Tokens(
    "<|eot_id|>",
    ("<|start_header_id|>", "<|end_header_id|>", "<|image|>", "<|python_tag|>"),
    begin="<|begin_of_text|>",
    pad="<|finetune_right_pad_id|>",
)


def mllama(tokenizer: Any) -> tuple[dict[str, Any], Any]:
    """Config and processor."""
    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "attention_heads": 2}
    config = {
        "text_config": language(
            tokenizer, num_hidden_layers=3, cross_attention_layers=[1], rope_parameters={"rope_type": "default"}
        ),
        "vision_config": tower
        | {
            "num_global_layers": 1,
            "image_size": 56,
            "patch_size": 14,
            "intermediate_layers_indices": [0],
            "vision_output_dim": 64,
            "max_num_tiles": 4,
        },
        "image_token_index": token_id(tokenizer, "<|image|>"),
    }
    return config, hf.MllamaProcessor(
        image_processor=hf.MllamaImageProcessor(size={"height": 56, "width": 56}, max_image_tiles=4),
        tokenizer=tokenizer,
        chat_template=with_images(LLAMA_TEMPLATE, "<|image|>"),
    )


LLAMA4 = Tokens(
    "<|eot|>",
    (
        "<|header_start|>",
        "<|header_end|>",
        "<|image|>",
        "<|image_start|>",
        "<|image_end|>",
        "<|patch|>",
        "<|tile_x_separator|>",
        "<|tile_y_separator|>",
    ),
    begin="<|begin_of_text|>",
    pad="<|finetune_right_pad|>",
)


def llama4(tokenizer: Any) -> tuple[dict[str, Any], Any]:
    """Config and processor."""
    text = language(
        tokenizer,
        intermediate_size_mlp=64,
        num_local_experts=4,
        num_experts_per_tok=1,
        interleave_moe_layer_step=2,
        attention_chunk_size=256,
        rope_parameters={"rope_type": "default", "rope_theta": 5e5},
    )
    tower = {"image_size": 56, "patch_size": 14, "intermediate_size": 128, "vision_output_dim": 32}
    config = {
        "text_config": text,
        "vision_config": SIGHT | tower | {"projector_input_dim": 32, "projector_output_dim": 32},
        "boi_token_index": token_id(tokenizer, "<|image_start|>"),
        "eoi_token_index": token_id(tokenizer, "<|image_end|>"),
        "image_token_index": token_id(tokenizer, "<|patch|>"),
        "tie_word_embeddings": False,
    }
    return config, hf.Llama4Processor(
        image_processor=hf.Llama4ImageProcessor(size={"height": 56, "width": 56}, max_patches=4),
        tokenizer=tokenizer,
        patch_size=14,
        chat_template=with_images(LLAMA4_TEMPLATE, "<|image|>"),
    )


MINICPM = Tokens(
    "<|im_end|>",
    ("<|im_start|>", "<think>", "</think>"),
    named={
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "image_start_token": "<image>",
        "image_end_token": "</image>",
        "slice_start_token": "<slice>",
        "slice_end_token": "</slice>",
        "image_id_start_token": "<image_id>",
        "image_id_end_token": "</image_id>",
    },
)


def minicpm(tokenizer: Any) -> tuple[dict[str, Any], Any]:
    """Config and processor."""
    config = {
        "text_config": linear_attention(tokenizer) | {"model_type": "qwen3_5_text"},
        "vision_config": SIGHT | {"image_size": 224, "patch_size": 14, "insert_layer_id": 0},
        "insert_layer_id": 0,
        "image_token_id": tokenizer.image_token_id,
        "video_token_id": tokenizer.video_token_id,
    }
    return config, hf.MiniCPMV4_6Processor(
        image_processor=hf.MiniCPMV4_6ImageProcessor(scale_resolution=112, max_slice_nums=2),
        tokenizer=tokenizer,
        video_processor=hf.MiniCPMV4_6VideoProcessor(),
        chat_template=with_images(CHATML, "<|image_pad|>\n"),
    )
