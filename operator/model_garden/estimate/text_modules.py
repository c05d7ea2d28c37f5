"""The modules of language models, with the names of transformers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from model_garden.estimate.modules import Config, Module, Role, TextShape, size
from model_garden.families import Family


def text_shape(values: Config) -> TextShape:
    """The sizes of a language model by its config, with what its family gives."""
    hidden, heads = size(values, "hidden_size"), size(values, "num_attention_heads")
    head = size(values, "head_dim") if "head_dim" in values else hidden // heads
    experts = Experts.of(values)
    return TextShape(
        layers=size(values, "num_hidden_layers"),
        hidden=hidden,
        attention=heads * head,
        key_value=head * (size(values, "num_key_value_heads") if "num_key_value_heads" in values else heads),
        intermediate=experts.used * experts.width if experts else size(values, "intermediate_size"),
        vocabulary=size(values, "vocab_size"),
    )


@dataclass(frozen=True)
class Experts:
    """Of a mixture: how many experts a layer has, how many of them a token uses, the width of one, and how many experts
    of that width all tokens share."""

    count: int
    used: int
    width: int
    shared: int

    @classmethod
    def of(cls, values: Config) -> Experts | None:
        """None for a dense model."""
        keys = ("num_experts", "num_local_experts", "n_routed_experts")
        count = next((values[key] for key in keys if values.get(key)), 0)
        if not count:
            return None
        width = size(values, "moe_intermediate_size", "intermediate_size")
        used = size(values, "num_experts_per_tok", "top_k_experts")
        return cls(int(count), used, width, int(values.get("n_shared_experts") or 0))


class TextModules:
    """Lists the modules of a language model.

    Args:
        values: its config, with what its family gives.
        shape: its sizes.
        family: how it differs from Llama.
        prefix: what its names begin with.
    """

    def __init__(self, values: Config, shape: TextShape, family: Family, prefix: str) -> None:
        self._values, self._shape, self._family, self._prefix = values, shape, family, prefix
        self._heads = size(values, "num_attention_heads")
        self._head = shape.attention // self._heads
        self._bias = bool(values.get("attention_bias"))
        self._experts = Experts.of(values)
        self._per_layer = int(values.get("hidden_size_per_layer_input") or 0)

    def __iter__(self) -> Iterator[Module]:
        shape, prefix = self._shape, self._prefix
        extra = 8 if self._family.cross_attention else 0  # Mllama's table has tokens that its head has not
        yield Module(prefix + "embed_tokens", shape.vocabulary + extra, shape.hidden, "language", "embedding")
        if self._per_layer:
            width, rows = self._per_layer * shape.layers, size(self._values, "vocab_size_per_layer_input", "vocab_size")
            yield Module(prefix + "embed_tokens_per_layer", rows, width, "language", "embedding")
            yield Module(prefix + "per_layer_model_projection", width, shape.hidden, "language", "other")
            yield self._vector(prefix + "per_layer_projection_norm", self._per_layer)
        for layer in range(shape.layers):
            yield from self._layer(layer)
        yield self._vector(prefix + "norm", shape.hidden)

    def _layer(self, layer: int) -> Iterator[Module]:
        at, hidden = f"{self._prefix}layers.{layer}.", self._shape.hidden
        if self._kind(layer) == "linear_attention":
            yield from self._linear_attention(at + "linear_attn.")
        elif self._values.get("kv_lora_rank"):
            yield from self._latent_attention(at + "self_attn.")
        elif self._crosses(layer):
            yield from self._attention(at + "cross_attn.", layer)
            yield self._vector(at + "cross_attn_attn_gate", 1)
            yield self._vector(at + "cross_attn_mlp_gate", 1)
        else:
            yield from self._attention(at + "self_attn.", layer)
        for name in self._family.norms:
            yield self._vector(at + name, hidden)
        if self._per_layer:
            yield Module(at + "per_layer_input_gate", self._per_layer, hidden, "language", "other")
            yield Module(at + "per_layer_projection", hidden, self._per_layer, "language", "other")
            yield self._vector(at + "post_per_layer_input_norm", hidden)
        if self._experts and self._mixes(layer):
            yield from self._mixture(at + f"{self._family.mlp}.", self._experts)
        else:
            yield from self._dense(at + f"{self._family.mlp}.", self._width(layer))

    def _kind(self, layer: int) -> str:
        kinds = self._values.get("layer_types")
        if kinds:
            return str(kinds[layer])
        every = self._family.full_attention_every
        return "linear_attention" if every and (layer + 1) % every else "full_attention"

    def _crosses(self, layer: int) -> bool:
        return layer in (self._values.get("cross_attention_layers") or self._family.cross_attention)

    def _shares_key_value(self, layer: int) -> bool:
        return layer >= self._shape.layers - int(self._values.get("num_kv_shared_layers") or 0)

    def _mixes(self, layer: int) -> bool:
        every = int(self._values.get("interleave_moe_layer_step") or 1)
        listed = self._values.get("moe_layers")
        if listed is not None:
            return layer in listed
        return layer >= int(self._values.get("first_k_dense_replace") or 0) and (layer + 1) % every == 0

    def _width(self, layer: int) -> int:
        wide = bool(self._values.get("use_double_wide_mlp")) and self._shares_key_value(layer)
        return size(self._values, "intermediate_size_mlp", "intermediate_size") * (2 if wide else 1)

    def _head_of(self, layer: int) -> int:
        """The size of a layer's heads, which config.json may give for each layer, or for those with full attention."""
        if self._family.global_head_dim is None or self._kind(layer) != "full_attention":
            return self._head
        listed = self._values.get("per_layer_config")
        if listed is not None:
            return int(listed.get(str(layer), {}).get("head_dim", self._head))
        return int(self._values.get("global_head_dim") or self._family.global_head_dim)

    def _attention(self, at: str, layer: int) -> Iterator[Module]:
        family, hidden = self._family, self._shape.hidden
        head = self._head_of(layer)
        query, key_value = self._heads * head, self._shape.key_value // self._head * head
        bias = self._bias or family.qkv_bias
        if family.fused_qkv:
            yield self._linear(at + "qkv_proj", query + 2 * key_value, hidden, "attention")
        else:
            yield self._linear(at + "q_proj", query * (2 if family.gated_query else 1), hidden, "attention", bias)
            if not self._shares_key_value(layer):
                yield self._linear(at + "k_proj", key_value, hidden, "attention", bias)
                yield self._linear(at + "v_proj", key_value, hidden, "attention", bias)
        yield self._linear(at + "o_proj", hidden, query, "attention", self._bias and family.output_bias)
        if family.sinks:
            yield self._vector(at.rstrip("."), self._heads)
        if self._crosses(layer) or (family.qk_norm and self._values.get("use_qk_norm", True)):
            yield self._vector(at + "q_norm", head)
            if not self._shares_key_value(layer):
                yield self._vector(at + "k_norm", head)

    def _linear_attention(self, at: str) -> Iterator[Module]:
        """Gated DeltaNet, as Qwen3-Next and Qwen3.5 have it."""
        values, hidden = self._values, self._shape.hidden
        heads = size(values, "linear_num_value_heads")
        value = heads * size(values, "linear_value_head_dim")
        mixed = 2 * size(values, "linear_num_key_heads") * size(values, "linear_key_head_dim") + value
        yield self._vector(at.rstrip("."), 2 * heads)
        yield Module(at + "conv1d", mixed, int(values.get("linear_conv_kernel_dim", 4)), "language", "other")
        for name, outputs in (("qkv", mixed), ("z", value), ("b", heads), ("a", heads)):
            yield self._linear(f"{at}in_proj_{name}", outputs, hidden, "attention")
        yield self._vector(at + "norm", size(values, "linear_value_head_dim"))
        yield self._linear(at + "out_proj", hidden, value, "attention")

    def _latent_attention(self, at: str) -> Iterator[Module]:
        """Multi-head latent attention of DeepSeek-V2 (arXiv 2405.04434)."""
        values, hidden = self._values, self._shape.hidden
        turned, rank = size(values, "qk_rope_head_dim"), size(values, "kv_lora_rank")
        still, value = size(values, "qk_nope_head_dim"), size(values, "v_head_dim")
        query = self._heads * (still + turned)
        if low := values.get("q_lora_rank"):
            yield self._linear(at + "q_a_proj", low, hidden, "attention", self._bias)
            yield self._vector(at + "q_a_layernorm", low)
            yield self._linear(at + "q_b_proj", query, low, "attention")
        else:
            yield self._linear(at + "q_proj", query, hidden, "attention")
        yield self._linear(at + "kv_a_proj_with_mqa", rank + turned, hidden, "attention", self._bias)
        yield self._vector(at + "kv_a_layernorm", rank)
        yield self._linear(at + "kv_b_proj", self._heads * (still + value), rank, "attention")
        yield self._linear(at + "o_proj", hidden, self._heads * value, "attention", self._bias)

    def _dense(self, at: str, width: int) -> Iterator[Module]:
        hidden = self._shape.hidden
        if self._family.fused_mlp:
            yield self._linear(at + "gate_up_proj", 2 * width, hidden, "mlp")
            yield self._linear(at + "down_proj", hidden, width, "mlp")
            return
        bias = bool(self._values.get("mlp_bias"))
        yield self._linear(at + "gate_proj", width, hidden, "mlp", bias)
        yield self._linear(at + "up_proj", width, hidden, "mlp", bias)
        yield self._linear(at + "down_proj", hidden, width, "mlp", bias)

    def _mixture(self, at: str, experts: Experts) -> Iterator[Module]:
        hidden, biased = self._shape.hidden, self._family.expert_bias
        extra = experts.count * (2 * experts.width + hidden) if biased else 0
        yield Module(at + "experts", experts.count * 3 * experts.width, hidden, "language", "other", extra)
        yield Module(at + "router", experts.count, hidden, "language", "other", experts.count if biased else 0)
        shared = experts.shared or self._family.shared_experts
        if shared:
            yield from self._dense(at + "shared_experts.", shared * experts.width)

    @staticmethod
    def _linear(name: str, outputs: int, inputs: int, role: Role, with_bias: bool = False) -> Module:
        return Module(name, outputs, inputs, "language", role, outputs if with_bias else 0)

    @staticmethod
    def _vector(name: str, length: int) -> Module:
        return Module(name, length, 1, "language", "other")
