"""config.json of well-known models, sizes only, written by hand from their public values."""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]


def qwen2_5_vl(hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, **more: Any) -> Config:
    """Flat, as on the Hub: the language model's sizes at the top."""
    return {
        "model_type": "qwen2_5_vl",
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": 152_064,
        "tie_word_embeddings": False,
        "vision_config": {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "in_chans": 3,
            "out_hidden_size": hidden,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
    } | more


def text(kind: str, hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, vocab: int) -> Config:
    """A text model's config.json, by its sizes."""
    return {
        "model_type": kind,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
    }


QWEN2_5_VL_3B = qwen2_5_vl(2048, 11_008, 36, 16, 2, vocab_size=151_936, tie_word_embeddings=True)
QWEN2_5_VL_7B = qwen2_5_vl(3584, 18_944, 28, 28, 4)
QWEN2_5_VL_72B = qwen2_5_vl(8192, 29_568, 80, 64, 8)
QWEN2_5_VL_72B["vision_config"] |= {"intermediate_size": 3456}
QWEN3_VL_4B: Config = {
    "model_type": "qwen3_vl",
    "tie_word_embeddings": True,
    "text_config": text("qwen3_vl_text", 2560, 9728, 36, 32, 8, 151_936)
    | {"head_dim": 128, "tie_word_embeddings": True},
    "vision_config": {
        "model_type": "qwen3_vl",
        "depth": 24,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_heads": 16,
        "in_channels": 3,
        "out_hidden_size": 2560,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [5, 11, 17],
    },
}
QWEN2_5_3B = text("qwen2", 2048, 11_008, 36, 16, 2, 151_936) | {"tie_word_embeddings": True}
QWEN2_5_7B = text("qwen2", 3584, 18_944, 28, 28, 4, 152_064) | {"tie_word_embeddings": False}
QWEN3_4B = text("qwen3", 2560, 9728, 36, 32, 8, 151_936) | {"head_dim": 128, "tie_word_embeddings": True}
LLAMA_3_1_8B = text("llama", 4096, 14_336, 32, 32, 8, 128_256) | {"tie_word_embeddings": False}
MISTRAL_7B = text("mistral", 4096, 14_336, 32, 32, 8, 32_768)
PHI_3_MINI = text("phi3", 3072, 8192, 32, 32, 32, 32_064)
GEMMA_2B = text("gemma", 2048, 16_384, 18, 8, 1, 256_000) | {"head_dim": 256}
GEMMA_2_2B = text("gemma2", 2304, 9216, 26, 8, 4, 256_000) | {"head_dim": 256}
GEMMA_3_1B = text("gemma3_text", 1152, 6912, 26, 4, 1, 262_144) | {"head_dim": 256}

# name, config, billions of parameters as its makers state them
EXACT: list[tuple[str, Config, float]] = [
    ("Qwen2.5-VL-3B", QWEN2_5_VL_3B, 3.75),
    ("Qwen2.5-VL-7B", QWEN2_5_VL_7B, 8.29),
    ("Qwen2.5-VL-72B", QWEN2_5_VL_72B, 73.4),
    ("Qwen3-VL-4B", QWEN3_VL_4B, 4.44),
    ("Qwen2.5-3B", QWEN2_5_3B, 3.09),
    ("Qwen2.5-7B", QWEN2_5_7B, 7.62),
    ("Qwen3-4B", QWEN3_4B, 4.02),
    ("Llama-3.1-8B", LLAMA_3_1_8B, 8.03),
    ("Mistral-7B-v0.3", MISTRAL_7B, 7.25),
    ("Phi-3-mini", PHI_3_MINI, 3.82),
    ("Gemma-2B", GEMMA_2B, 2.51),
    ("Gemma-2-2B", GEMMA_2_2B, 2.61),
    ("Gemma-3-1B", GEMMA_3_1B, 1.00),
]

# The first leaves out what its family's defaults say, as on the Hub.
OTHERS: list[tuple[str, Config]] = [
    (
        "Gemma-3-4B",
        {
            "model_type": "gemma3",
            "mm_tokens_per_image": 256,
            "text_config": {
                "model_type": "gemma3_text",
                "hidden_size": 2560,
                "intermediate_size": 10_240,
                "num_hidden_layers": 34,
            },
            "vision_config": {
                "model_type": "siglip_vision_model",
                "hidden_size": 1152,
                "image_size": 896,
                "intermediate_size": 4304,
                "num_attention_heads": 16,
                "num_hidden_layers": 27,
                "patch_size": 14,
                "vision_use_head": False,
            },
        },
    ),
    (
        "SmolVLM-256M",
        {
            "model_type": "smolvlm",
            "scale_factor": 4,
            "text_config": text("llama", 576, 1536, 30, 9, 3, 49_280),
            "vision_config": {
                "hidden_size": 768,
                "num_hidden_layers": 12,
                "intermediate_size": 3072,
                "num_attention_heads": 12,
                "patch_size": 16,
                "image_size": 512,
            },
        },
    ),
    (
        "Qwen3-30B-A3B",
        text("qwen3_moe", 2048, 6144, 48, 32, 4, 151_936)
        | {"moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8, "head_dim": 128},
    ),
]
