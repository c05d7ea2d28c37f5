"""The one table of model families: what differs between them and no config.json says.

To add a family, add it here. A family that is not here still trains: it is counted as shaped like Llama with a
SigLIP-shaped vision tower, its pictures are counted by its own processor, and packing is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Family:
    """How one family differs from Llama.

    Args:
        qkv_bias: whether query, key and value projections have a bias.
        qk_norm: whether query and key are normalized.
        norms: names of a decoder layer's norms.
        fused: whether the attention's and the MLP's input projections are one matrix each.
        given: values that its config.json may leave out.
        packs: whether a test shows packed and unpacked logits and losses equal.
    """

    qkv_bias: bool = False
    qk_norm: bool = False
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    fused: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)
    packs: bool = False


_FOUR_NORMS = (*Family().norms, "pre_feedforward_layernorm", "post_feedforward_layernorm")
_GEMMA = {"head_dim": 256, "tie_word_embeddings": True, "vocab_size": 256_000}
_GEMMA3 = _GEMMA | {"num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 262_208}

FAMILIES: dict[str, Family] = {
    "llama": Family(packs=True),
    "mistral": Family(packs=True),
    "qwen2": Family(qkv_bias=True, packs=True),
    "qwen2_vl": Family(qkv_bias=True, packs=True),
    "qwen2_5_vl": Family(qkv_bias=True, packs=True),
    "qwen3": Family(qk_norm=True, given={"head_dim": 128}, packs=True),
    "qwen3_vl": Family(qk_norm=True, given={"head_dim": 128}, packs=True),
    "phi3": Family(fused=True, packs=True),
    "gemma": Family(given=_GEMMA),
    "gemma2": Family(norms=_FOUR_NORMS, given=_GEMMA, packs=True),
    "gemma3": Family(norms=_FOUR_NORMS, qk_norm=True, given=_GEMMA3),
    "gemma3_text": Family(norms=_FOUR_NORMS, qk_norm=True, given=_GEMMA3, packs=True),
}
"""By ``model_type`` of config.json."""

VISION_CONFIG_KEYS = ("vision_config", "vision_tower", "mm_vision_tower", "vit_config")
"""Keys of config.json, one of which every model that takes pictures has."""


def reads_images(config: Mapping[str, Any]) -> bool:
    """Whether the model of a parsed config.json has an image encoder."""
    return any(config.get(key) for key in VISION_CONFIG_KEYS)


VISION_MODULES = frozenset(
    {
        "visual",
        "vision_tower",
        "vision_model",
        "vision_encoder",
        "vision_embed_tokens",
        "image_encoder",
        "vpm",
        "vit",
    }
)
"""Names under which families keep their vision tower."""
CONNECTORS = frozenset(
    {"multi_modal_projector", "mm_projector", "connector", "aligner", "merger", "modality_projection"}
)
"""Names of what stands between vision tower and language model."""
CONNECTOR_WORDS = ("merger", "projector", "connector", "aligner", "modality_projection")
"""Words by which a module inside a connector is known."""
PICTURE_TOKENS = (
    "image_token_id",
    "video_token_id",
    "boi_token_id",
    "eoi_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
)
"""Attributes of processors and tokenizers that hold the ids of tokens which stand for pictures."""
COUNTED_IMAGE_PROCESSORS = ("Qwen2VLImageProcessor",)
"""Image processors whose tokens ``datasets.tokens`` counts from a picture's size alone, by the begin of their name."""
