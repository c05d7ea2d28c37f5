"""Makers of tiny models that read an image whole, and the special tokens of their families."""

from __future__ import annotations

from typing import Any

import transformers as hf

from testing.tiny_models import chat_template
from testing.tiny_parts import (
    GLM,
    MISTRAL,
    SIGHT,
    Maker,
    Tokens,
    language,
    linear_attention,
    token_id,
    with_images,
)

QWEN = Tokens("<|im_end|>", ("<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"))
THINKING = Tokens(QWEN.end, (*QWEN.others, "<think>", "</think>"))


def _qwen_ids(tokenizer: Any) -> dict[str, int]:
    return {
        "image_token_id": token_id(tokenizer, "<|image_pad|>"),
        "video_token_id": token_id(tokenizer, "<|video_pad|>"),
        "vision_start_token_id": token_id(tokenizer, "<|vision_start|>"),
        "vision_end_token_id": token_id(tokenizer, "<|vision_end|>"),
    }


def _qwen_tower(patch: int) -> dict[str, Any]:
    sizes = {"depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
    return sizes | {"patch_size": patch}


def qwen2_5_vl(tokenizer: Any) -> tuple[dict[str, Any], Any]:
    """Config and processor."""
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    config = {
        "text_config": language(tokenizer, rope_parameters=rope),
        "vision_config": _qwen_tower(14) | {"window_size": 112, "fullatt_block_indexes": [1]},
        **_qwen_ids(tokenizer),
    }
    return config, hf.Qwen2_5_VLProcessor(
        image_processor=hf.Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=56 * 56),
        tokenizer=tokenizer,
        video_processor=hf.Qwen2VLVideoProcessor(),
        chat_template=chat_template("qwen2_5_vl"),
    )


def _qwen3_processor(tokenizer: Any, template: str) -> Any:
    return hf.Qwen3VLProcessor(
        image_processor=hf.Qwen2VLImageProcessor(patch_size=16, min_pixels=32 * 32, max_pixels=64 * 64),
        tokenizer=tokenizer,
        video_processor=hf.Qwen3VLVideoProcessor(),
        chat_template=chat_template(template),
    )


def qwen3_vl(tokenizer: Any) -> tuple[dict[str, Any], Any]:
    """Config and processor."""
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [2, 3, 3], "mrope_interleaved": True}
    config = {
        "text_config": language(tokenizer, rope_parameters=rope),
        "vision_config": _qwen_tower(16) | {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
        **_qwen_ids(tokenizer),
    }
    return config, _qwen3_processor(tokenizer, "qwen3_vl")


def qwen3_5(tokenizer: Any) -> tuple[dict[str, Any], Any]:
    """Config and processor."""
    config = {
        "text_config": linear_attention(tokenizer),
        "vision_config": _qwen_tower(16) | {"num_position_embeddings": 64},
        **_qwen_ids(tokenizer),
    }
    return config, _qwen3_processor(tokenizer, "qwen3_5_nothink")


GEMMA3 = Tokens(
    "<eos>",
    ("<start_of_turn>", "<end_of_turn>"),
    begin="<bos>",
    pad="<pad>",
    named={"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"},
    stops=("<end_of_turn>",),
)


def gemma3(tokenizer: Any) -> tuple[dict[str, Any], Any]:
    """Config and processor."""
    config = {
        "text_config": language(tokenizer, sliding_window=64, tie_word_embeddings=True),
        "vision_config": SIGHT | {"image_size": 56, "patch_size": 14},
        "mm_tokens_per_image": 4,
        "image_token_id": tokenizer.image_token_id,
        "boi_token_id": tokenizer.boi_token_id,
        "eoi_token_id": tokenizer.eoi_token_id,
    }
    return config, hf.Gemma3Processor(
        image_processor=hf.Gemma3ImageProcessor(size={"height": 56, "width": 56}),
        tokenizer=tokenizer,
        chat_template=chat_template("gemma3"),
        image_seq_length=4,
    )


GEMMA4 = Tokens(
    "<eos>",
    ("<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|video|>"),
    begin="<bos>",
    pad="<pad>",
    named={
        "image_token": "<|image|>",
        "boi_token": "<|image>",
        "eoi_token": "<image|>",
        "audio_token": "<|audio|>",
        "boa_token": "<|audio>",
        "eoa_token": "<audio|>",
    },
    stops=("<turn|>",),
)
_GEMMA4_TEXT: dict[str, Any] = {
    "layer_types": ["sliding_attention", "full_attention"],
    "sliding_window": 64,
    "global_head_dim": 16,
    "hidden_size_per_layer_input": 8,
    "tie_word_embeddings": True,
}


def gemma4(tokenizer: Any) -> tuple[dict[str, Any], Any]:
    """Config and processor."""
    text = language(tokenizer, vocab_size_per_layer_input=len(tokenizer), **_GEMMA4_TEXT)
    config = {
        "text_config": text | {"use_bidirectional_attention": "vision"},
        "vision_config": SIGHT | {"num_key_value_heads": 2, "head_dim": 16, "position_embedding_size": 64},
        "audio_config": {
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "output_proj_dims": 32,
            "subsampling_conv_channels": [8, 4],
        },
        **{f"{name}_id": token_id(tokenizer, token) for name, token in tokenizer_named(GEMMA4).items()},
        "video_token_id": token_id(tokenizer, "<|video|>"),
    }
    return config, hf.Gemma4Processor(
        feature_extractor=hf.Gemma4AudioFeatureExtractor(),
        image_processor=hf.Gemma4ImageProcessor(max_soft_tokens=70),
        tokenizer=tokenizer,
        video_processor=hf.Gemma4VideoProcessor(),
        chat_template=chat_template("gemma4"),
    )


def tokenizer_named(tokens: Tokens) -> dict[str, str]:
    """Named tokens but ``eoa_token``, which the config calls otherwise."""
    return {name: token for name, token in tokens.named.items() if name != "eoa_token"}


PIXTRAL = Tokens(
    "</s>",
    ("[IMG]", "[IMG_BREAK]", "[IMG_END]", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    begin="<s>",
    pad="<pad>",
)


def _pixtral_tower() -> dict[str, Any]:
    return SIGHT | {"model_type": "pixtral", "image_size": 64, "patch_size": 16, "head_dim": 16}


def pixtral(tokenizer: Any) -> tuple[dict[str, Any], Any]:
    """Config and processor."""
    config = {
        "text_config": language(tokenizer, model_type="mistral"),
        "vision_config": _pixtral_tower(),
        "image_token_index": token_id(tokenizer, "[IMG]"),
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
    }
    return config, _pixtral_processor(tokenizer, merge=1)


def mistral3(text: str) -> Maker:
    """Config and processor."""

    def make(tokenizer: Any) -> tuple[dict[str, Any], Any]:
        config = {
            "text_config": language(tokenizer, model_type=text),
            "vision_config": _pixtral_tower(),
            "image_token_index": token_id(tokenizer, "[IMG]"),
            "tie_word_embeddings": False,
        }
        return config, _pixtral_processor(tokenizer, merge=2)

    return make


def _pixtral_processor(tokenizer: Any, merge: int) -> Any:
    side = 16
    return hf.PixtralProcessor(
        image_processor=hf.PixtralImageProcessor(size={"longest_edge": 64}, patch_size=side * merge),
        tokenizer=tokenizer,
        patch_size=side,
        spatial_merge_size=merge,
        chat_template=with_images(MISTRAL, "[IMG]"),
    )


GLM_TOKENS = Tokens(
    "<|endoftext|>",
    (
        "[gMASK]",
        "<sop>",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|observation|>",
        "<|image|>",
        "<|video|>",
        "<|begin_of_image|>",
        "<|end_of_image|>",
        "<|begin_of_video|>",
        "<|end_of_video|>",
    ),
    pad="<|pad|>",
    stops=("<|user|>", "<|observation|>"),
)


def glm4v(processor: str) -> Maker:
    """Config and processor."""

    def make(tokenizer: Any) -> tuple[dict[str, Any], Any]:
        rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1]}
        config = {
            "text_config": language(tokenizer, rope_parameters=rope),
            "vision_config": _qwen_tower(14) | {"image_size": 56},
            **{f"{kind}_token_id": token_id(tokenizer, f"<|{kind}|>") for kind in ("image", "video")},
            **{
                f"{kind}_{place}_token_id": token_id(tokenizer, f"<|{word}_of_{kind}|>")
                for kind in ("image", "video")
                for place, word in (("start", "begin"), ("end", "end"))
            },
        }
        made: Any = getattr(hf, f"{processor}Processor")
        return config, made(
            image_processor=getattr(hf, f"{processor}ImageProcessor")(
                size={"shortest_edge": 28 * 28, "longest_edge": 56 * 56 * 2}
            ),
            tokenizer=tokenizer,
            video_processor=getattr(hf, f"{processor}VideoProcessor")(),
            chat_template=with_images(GLM, "<|begin_of_image|><|image|><|end_of_image|>"),
        )

    return make
