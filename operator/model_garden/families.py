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
        output_bias: whether ``attention_bias`` of config.json gives the output projection a bias too.
        qk_norm: whether query and key are normalized with weights, unless ``use_qk_norm`` is false.
        norms: names of a decoder layer's norms.
        fused_qkv: whether query, key and value projections are one matrix.
        fused_mlp: whether the MLP's input projections are one matrix.
        gated_query: whether the query projection makes a gate of the same size too.
        mlp: the name of a layer's MLP.
        expert_bias: whether experts and their router have a bias.
        shared_experts: how many experts all tokens share, if config.json does not say it.
        sinks: whether each attention head has a sink.
        global_head_dim: the head size of layers with full attention, where it differs.
        full_attention_every: which layers have full attention, others being linear, if config.json does not list them.
        cross_attention: the layers that attend to images, if config.json does not list them.
        given: values that its config.json may leave out.
        packs: whether a test shows packed and unpacked logits and losses equal.
    """

    qkv_bias: bool = False
    output_bias: bool = True
    qk_norm: bool = False
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    fused_qkv: bool = False
    fused_mlp: bool = False
    gated_query: bool = False
    mlp: str = "mlp"
    expert_bias: bool = False
    shared_experts: int = 0
    sinks: bool = False
    global_head_dim: int | None = None
    full_attention_every: int | None = None
    cross_attention: tuple[int, ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)
    packs: bool = False


_FOUR_NORMS = (*Family().norms, "pre_feedforward_layernorm", "post_feedforward_layernorm")
_GLM_NORMS = (*Family().norms, "post_self_attn_layernorm", "post_mlp_layernorm")
_GEMMA = {"head_dim": 256, "tie_word_embeddings": True, "vocab_size": 256_000}
_GEMMA3 = _GEMMA | {"num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 262_208}
_QWEN3_5 = Family(qk_norm=True, gated_query=True, full_attention_every=4, given={"head_dim": 256})
_GLM_VISION = Family(qkv_bias=True, norms=_GLM_NORMS, fused_mlp=True)

FAMILIES: dict[str, Family] = {
    "llama": Family(packs=True),
    "mistral": Family(packs=True),
    "ministral3": Family(given={"head_dim": 128}),
    "qwen2": Family(qkv_bias=True, packs=True),
    "qwen2_vl": Family(qkv_bias=True, packs=True),
    "qwen2_5_vl": Family(qkv_bias=True, packs=True),
    "qwen3": Family(qk_norm=True, given={"head_dim": 128}, packs=True),
    "qwen3_vl": Family(qk_norm=True, given={"head_dim": 128}, packs=True),
    "qwen3_moe": Family(qk_norm=True),
    "qwen3_5": _QWEN3_5,
    "phi3": Family(fused_qkv=True, fused_mlp=True, packs=True),
    "gemma": Family(given=_GEMMA),
    "gemma2": Family(norms=_FOUR_NORMS, given=_GEMMA, packs=True),
    "gemma3": Family(norms=_FOUR_NORMS, qk_norm=True, given=_GEMMA3),
    "gemma3_text": Family(norms=_FOUR_NORMS, qk_norm=True, given=_GEMMA3, packs=True),
    "gemma4": Family(
        norms=_FOUR_NORMS,
        qk_norm=True,
        global_head_dim=512,
        given={
            "head_dim": 256,
            "hidden_size_per_layer_input": 256,
            "vocab_size_per_layer_input": 262_144,
            "tie_word_embeddings": True,
        },
    ),
    "glm": Family(output_bias=False, fused_mlp=True),
    "glm4": Family(output_bias=False, norms=_GLM_NORMS, fused_mlp=True, given={"attention_bias": True}),
    "glm4_moe": Family(output_bias=False, qk_norm=True, given={"use_qk_norm": False, "n_shared_experts": 1}),
    "glm4v": _GLM_VISION,
    "glm46v": _GLM_VISION,
    "gpt_oss": Family(expert_bias=True, sinks=True, given={"attention_bias": True}),
    "deepseek_v3": Family(),
    "llama4": Family(mlp="feed_forward", shared_experts=1, given={"head_dim": 128}),
    "mllama_text_model": Family(cross_attention=(3, 8, 13, 18, 23, 28, 33, 38)),
}
"""By ``model_type`` of config.json; of a model that reads images, by that of its language model too."""

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
AUDIO_MODULES = frozenset({"audio_tower", "audio_model", "audio_encoder"})
"""Names under which families keep their audio encoder."""
NEVER_ADAPTED = AUDIO_MODULES | {"router", "gate", "shared_expert_gate", "per_layer_input_gate", "per_layer_projection"}
"""Names of modules that get no adapter unless ``targetModules`` names them: encoders of audio, routers of experts, and
Gemma 4's inputs of each layer."""
CONNECTORS = frozenset(
    {
        "multi_modal_projector",
        "mm_projector",
        "connector",
        "aligner",
        "merger",
        "modality_projection",
        "embed_vision",
        "embed_audio",
    }
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
