"""Tiny random models of every family in docs/reference/models.md: the architecture, processor and tokenizer classes of
transformers, with random weights and a tokenizer of a few hundred tokens. Nothing is read from the network.

Chat templates are those that TRL bundles. Where it has none, they are written from the template of the model that the
family's entry names, without its parts for tools.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from testing.tiny_models import chat_template, ready, widen_readout
from testing.tiny_parts import EXPERTS, GLM, MISTRAL, Maker, TinyFamily, Tokens, language, make_tokenizer, with_images
from testing.tiny_tiles import (
    IDEFICS,
    INTERNVL,
    LLAMA,
    LLAMA4,
    MINICPM,
    idefics3,
    internvl,
    llama4,
    minicpm,
    mllama,
    smolvlm,
)
from testing.tiny_vision import (
    GEMMA3,
    GEMMA4,
    GLM_TOKENS,
    PIXTRAL,
    QWEN,
    THINKING,
    gemma3,
    gemma4,
    glm4v,
    mistral3,
    pixtral,
    qwen2_5_vl,
    qwen3_5,
    qwen3_vl,
)


def make_tiny(family: TinyFamily, folder: Path) -> Path:
    """Write a tiny random model of ``family`` with its tokenizer or processor into ``folder``, and return that."""
    tokenizer = make_tokenizer(family.tokens)
    arguments, processor = family.make(tokenizer)
    config = AutoConfig.for_model(family.kind, **arguments)
    auto = AutoModelForImageTextToText if family.vision else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ready(auto.from_config(config), tokenizer)
        widen_readout(model)
        for name, parameter in model.named_parameters():
            if name.endswith("_gate"):  # Mllama's, which are closed before training
                torch.nn.init.ones_(parameter)
    stops = [tokenizer.convert_tokens_to_ids(stop) for stop in family.tokens.stops]
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *stops]
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _text(template: str | None = None, bundled: str = "", **more: Any) -> Maker:
    def make(tokenizer: Any) -> tuple[dict[str, Any], Any]:
        tokenizer.chat_template = with_images(template, "") if template else chat_template(bundled)
        return language(tokenizer, **more), tokenizer

    return make


HARMONY = Tokens("<|return|>", ("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|call|>"), pad="<|endoftext|>")
DEEPSEEK = Tokens(
    "<｜end▁of▁sentence｜>", ("<｜User｜>", "<｜Assistant｜>"), begin="<｜begin▁of▁sentence｜>", pad="<pad>"
)
PHI = Tokens("<|endoftext|>", ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), pad="<|pad|>", stops=("<|end|>",))
_LATENT: dict[str, Any] = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "head_dim": 8,
    "num_key_value_heads": 2,
}
_SHARED: dict[str, Any] = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}

FAMILIES: tuple[TinyFamily, ...] = (
    TinyFamily("Qwen2.5-VL", "qwen2_5_vl", QWEN, qwen2_5_vl, vision=True),
    TinyFamily("Qwen3-VL", "qwen3_vl", QWEN, qwen3_vl, vision=True),
    TinyFamily("Qwen3.5", "qwen3_5", THINKING, qwen3_5, vision=True),
    TinyFamily("Gemma 3", "gemma3", GEMMA3, gemma3, vision=True),
    TinyFamily("Gemma 4", "gemma4", GEMMA4, gemma4, vision=True),
    TinyFamily("SmolVLM", "smolvlm", IDEFICS, smolvlm, vision=True),
    TinyFamily("Idefics 3", "idefics3", IDEFICS, idefics3, vision=True),
    TinyFamily("Pixtral", "llava", PIXTRAL, pixtral, vision=True),
    TinyFamily("Mistral Small 3.1", "mistral3", PIXTRAL, mistral3("mistral"), vision=True),
    TinyFamily("Ministral 3", "mistral3", PIXTRAL, mistral3("ministral3"), vision=True),
    TinyFamily("InternVL 3.5", "internvl", INTERNVL, internvl, vision=True),
    TinyFamily("GLM-4.1V", "glm4v", GLM_TOKENS, glm4v("Glm4v"), vision=True),
    TinyFamily("GLM-4.6V-Flash", "glm46v", GLM_TOKENS, glm4v("Glm46V"), vision=True),
    TinyFamily("Llama 3.2 Vision", "mllama", LLAMA, mllama, vision=True),
    TinyFamily("Llama 4", "llama4", LLAMA4, llama4, vision=True, mixture=True),
    TinyFamily("MiniCPM-V 4.6", "minicpmv4_6", MINICPM, minicpm, vision=True),
    TinyFamily("Qwen3", "qwen3", THINKING, _text(bundled="qwen3")),
    TinyFamily(
        "Qwen3 mixture of experts",
        "qwen3_moe",
        THINKING,
        _text(bundled="qwen3", num_experts=4, **EXPERTS),
        mixture=True,
    ),
    TinyFamily("Llama 3", "llama", LLAMA, _text(bundled="llama3")),
    TinyFamily("Mistral", "mistral", PIXTRAL, _text(MISTRAL)),
    TinyFamily("Gemma 2", "gemma2", GEMMA3, _text(bundled="gemma", sliding_window=64, tie_word_embeddings=True)),
    TinyFamily(
        "Gemma 3 text", "gemma3_text", GEMMA3, _text(bundled="gemma3", sliding_window=64, tie_word_embeddings=True)
    ),
    TinyFamily("Phi 3 and 4", "phi3", PHI, _text(bundled="phi3")),
    TinyFamily(
        "gpt-oss",
        "gpt_oss",
        HARMONY,
        _text(bundled="gptoss", num_local_experts=4, num_experts_per_tok=2, sliding_window=64),
        mixture=True,
        one_answer=True,
    ),
    TinyFamily("GLM-4", "glm4", GLM_TOKENS, _text(GLM)),
    TinyFamily(
        "GLM-4.5",
        "glm4_moe",
        GLM_TOKENS,
        _text(bundled="glm4moe", **EXPERTS, **_SHARED),
        mixture=True,
    ),
    TinyFamily(
        "DeepSeek-V3",
        "deepseek_v3",
        DEEPSEEK,
        _text(bundled="deepseekv3", **EXPERTS, **_SHARED, **_LATENT),
        mixture=True,
    ),
)

UNAVAILABLE = (
    (
        "Phi-4-multimodal",
        "phi4_multimodal",
        "transformers has no class of it that AutoModelForImageTextToText loads",
    ),
)
"""Families that transformers cannot load: model, ``model_type`` and reason."""
