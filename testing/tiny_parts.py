"""What tiny models of many families share: sizes, special tokens, a tokenizer, and chat templates that TRL does not
bundle, written from the template of the model that is named, without its parts for tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import transformers as hf
from tokenizers import Tokenizer

from testing.tiny_models import MAX_POSITIONS, Variant, byte_level_bpe

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": MAX_POSITIONS,
}
SIGHT = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
EXPERTS: dict[str, Any] = {"moe_intermediate_size": 16, "num_experts_per_tok": 2}

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for c in m.content %}{% if c.type == 'image' %}IMAGE{% else %}{{ c.text }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}[SYSTEM_PROMPT]{{ text(m) }}[/SYSTEM_PROMPT]"
    "{% elif m.role == 'user' %}[INST]{{ text(m) }}[/INST]{% else %}{{ text(m) }}{{ eos_token }}{% endif %}{% endfor %}"
)
"""Mistral Small 3.1, and with ``[IMG]`` Pixtral."""
SMOLVLM = (
    "<|im_start|>{% for m in messages %}{{ m.role | capitalize }}{% if m.content[0].type == 'image' %}:{% else %}: "
    "{% endif %}{% for c in m.content %}{% if c.type == 'text' %}{{ c.text }}{% else %}<image>{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""HuggingFaceTB/SmolVLM2-2.2B-Instruct."""
GLM = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{{ text(m) }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""zai-org/GLM-4-9B-0414, and with images GLM-4.1V: a turn ends where the next role begins."""
_TEXT = (
    "{%- macro text(m) -%}{%- if m.content is string -%}{{ m.content }}{%- else -%}{%- for c in m.content -%}"
    "{%- if c.type == 'image' -%}IMAGE{%- else -%}{{ c.text }}{%- endif -%}{%- endfor -%}{%- endif -%}{%- endmacro -%}"
)
LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ text(m) }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
"""meta-llama/Llama-3.2-11B-Vision-Instruct."""
LLAMA4_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|header_start|>{{ m.role }}<|header_end|>\n\n{{ text(m) }}<|eot|>"
    "{% endfor %}{% if add_generation_prompt %}<|header_start|>assistant<|header_end|>\n\n{% endif %}"
)
"""meta-llama/Llama-4-Scout-17B-16E-Instruct."""


def with_images(template: str, image: str) -> str:
    """A template above, with the text that stands for an image."""
    return (_TEXT + template).replace("IMAGE", image)


@dataclass(frozen=True)
class Tokens:
    """The special tokens of a family. ``named`` are attributes by which its processor knows some of them."""

    end: str
    others: tuple[str, ...] = ()
    begin: str | None = None
    pad: str = "<|endoftext|>"
    named: Mapping[str, str] = field(default_factory=dict)
    stops: tuple[str, ...] = ()


Maker = Callable[[Any], tuple[dict[str, Any], Any]]
"""A tokenizer -> the arguments of the family's config, and its processor or tokenizer with the chat template."""


@dataclass(frozen=True)
class TinyFamily:
    """A family of models.

    Args:
        model: a well-known model of the family.
        kind: ``model_type`` of its config.
        tokens: its special tokens.
        make: makes config and processor.
        vision: whether it reads images.
        mixture: whether it is a mixture of experts.
        one_answer: whether its chat template allows one answer a row.
        spec: fields that its jobs need.
    """

    model: str
    kind: str
    tokens: Tokens
    make: Maker
    vision: bool = False
    mixture: bool = False
    one_answer: bool = False
    spec: Mapping[str, Any] = field(default_factory=dict)


@cache
def _vocabulary() -> str:
    return str(byte_level_bpe((), Variant(merges=100)).to_str())


def make_tokenizer(tokens: Tokens) -> Any:
    """A small tokenizer with the special tokens of a family."""
    special = dict.fromkeys([tokens.pad, tokens.end, *([tokens.begin] if tokens.begin else []), *tokens.others])
    made = Tokenizer.from_str(_vocabulary())
    made.add_special_tokens([*special, *(token for token in tokens.named.values() if token not in special)])
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=tokens.begin,
        eos_token=tokens.end,
        pad_token=tokens.pad,
        extra_special_tokens=dict(tokens.named),
        model_max_length=MAX_POSITIONS,
    )


def language(tokenizer: Any, **more: Any) -> dict[str, Any]:
    """The config of a tiny language model."""
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return SIZES | {"vocab_size": len(tokenizer)} | ids | more


def linear_attention(tokenizer: Any, **more: Any) -> dict[str, Any]:
    """The config of a tiny language model of Qwen3.5's kind."""
    rope = {"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25}
    rope |= {"mrope_section": [2, 1, 1], "mrope_interleaved": True}
    return language(
        tokenizer,
        head_dim=32,
        layer_types=["linear_attention", "full_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        rope_parameters=rope,
        **more,
    )


def token_id(tokenizer: Any, token: str) -> int:
    """The id of a token, which must be one."""
    found = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(found, int), token
    return found
