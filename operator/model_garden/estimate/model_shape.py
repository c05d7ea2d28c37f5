"""Computes the modules of a model and their sizes from its config.json, with the names of transformers.

``formulas.py`` counts the bytes, the quantized bytes and the LoRA parameters of these modules. The layouts are those of
``transformers.models.*.modeling_*`` 5.17. They are exact for the families of ``families.py`` and ``_VISION``. Any other
model is counted as Llama-shaped text with a SigLIP-shaped vision tower, and ``Model.approximations`` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from model_garden.families import FAMILIES, Family

Config = Mapping[str, Any]
Side = Literal["language", "vision"]
Role = Literal["attention", "mlp", "connector", "head", "embedding", "other"]


@dataclass(frozen=True)
class Module:
    """A module with ``outputs x inputs`` weights, and ``extra`` (its bias).

    ``attention``, ``mlp``, ``connector`` and ``head`` are ``torch.nn.Linear``, which can be quantized and adapted.
    """

    name: str
    outputs: int
    inputs: int
    side: Side
    role: Role
    extra: int = 0

    @property
    def parameters(self) -> int:
        """The number of its parameters."""
        return self.outputs * self.inputs + self.extra


@dataclass(frozen=True)
class TextShape:
    """The sizes of the language model. ``attention`` and ``key_value`` are heads x head size. In a mixture of experts,
    ``intermediate`` is the sum of the experts that one token uses."""

    layers: int
    hidden: int
    attention: int
    key_value: int
    intermediate: int
    vocabulary: int


@dataclass(frozen=True)
class VisionShape:
    """The vision tower's sizes. ``merge`` x ``merge`` patches become one token; ``patch`` is the side in pixels.

    ``fixed_pixels`` is the side to which every image is resized; None if the tower accepts any size. ``patch_values``
    is the number of input values of a patch. ``fixed_tokens`` is the number of tokens of a resized image.
    """

    layers: int
    hidden: int
    intermediate: int
    patch: int
    merge: int
    patch_values: int
    fixed_pixels: int | None = None
    fixed_tokens: int | None = None


@dataclass(frozen=True)
class Model:
    """The sizes of a model by its config.json. ``approximations`` says what was assumed."""

    text: TextShape
    vision: VisionShape | None
    modules: tuple[Module, ...]
    approximations: tuple[str, ...]

    @property
    def parameters(self) -> int:
        """The number of parameters; tied ones are counted once."""
        return sum(module.parameters for module in self.modules)


_VISION = ("qwen2_5_vl", "qwen3_vl")
_USUAL_TOWER = {
    "num_hidden_layers": 27,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "patch_size": 14,
    "image_size": 448,
}
_TOWER_KEYS = {key: (key,) for key in _USUAL_TOWER} | {
    "num_hidden_layers": ("num_hidden_layers", "depth"),
    "hidden_size": ("embed_dim", "hidden_size"),
}


def read_model(config: Config) -> Model:
    """The modules and sizes of a model by its parsed config.json.

    Raises:
        ValueError: a required size is missing or not a positive number; the message names the key.
    """
    text = _text_config(config)
    kind = str(text.get("model_type") or config.get("model_type") or "").removesuffix("_text")
    family = FAMILIES.get(kind)
    approximations = [] if family else [f"model_type {kind or 'unknown'}: counted as a model shaped like Llama"]
    given = dict(family.given if family else {})
    values = given | {key: value for key, value in text.items() if value is not None}
    seeing = config.get("vision_config")
    prefix = "model.language_model." if seeing else "model."
    shape = _text_shape(values)
    modules = list(_text_modules(values, shape, family or Family(), prefix, approximations))
    vision = None
    if seeing:
        vision, tower = _vision(config, dict(seeing), shape, approximations)
        modules += tower
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings", given.get("tie_word_embeddings", False)))
    if not tied:
        modules.append(Module("lm_head", shape.vocabulary, shape.hidden, "language", "head"))
    return Model(shape, vision, tuple(modules), tuple(approximations))


def _text_config(config: Config) -> Config:
    """The config of the language model: nested in newer files, at the top level in older ones."""
    return config.get("text_config") or config.get("llm_config") or config


def _size(values: Config, *keys: str) -> int:
    for key in keys:
        if values.get(key) is not None:
            value = values[key]
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"config.json: {key} must be a positive whole number; got {value!r}")
            return value
    raise ValueError(f"config.json: {' or '.join(keys)} is missing, so the size of the model is unknown")


def _text_shape(values: Config) -> TextShape:
    hidden, heads = _size(values, "hidden_size"), _size(values, "num_attention_heads")
    head = _size(values, "head_dim") if "head_dim" in values else hidden // heads
    experts = _experts(values)
    return TextShape(
        layers=_size(values, "num_hidden_layers"),
        hidden=hidden,
        attention=heads * head,
        key_value=head * (_size(values, "num_key_value_heads") if "num_key_value_heads" in values else heads),
        intermediate=experts[1] * experts[2] if experts else _size(values, "intermediate_size"),
        vocabulary=_size(values, "vocab_size"),
    )


def _experts(values: Config) -> tuple[int, int, int] | None:
    """Of a mixture: how many experts, how many serve one token, and the width of one; None for a dense model."""
    count = next((values[key] for key in ("num_experts", "num_local_experts", "n_routed_experts") if key in values), 0)
    if not count:
        return None
    width = _size(values, "moe_intermediate_size", "intermediate_size")
    return int(count), _size(values, "num_experts_per_tok"), width


def _text_modules(
    values: Config, shape: TextShape, family: Family, prefix: str, approximations: list[str]
) -> Iterator[Module]:
    bias = bool(values.get("attention_bias"))
    head = shape.attention // _size(values, "num_attention_heads")
    experts = _experts(values)
    if experts:
        approximations.append(f"{experts[0]} experts a layer: counted in 16 bit and without adapters")

    def linear(name: str, outputs: int, inputs: int, role: Role, with_bias: bool = False) -> Module:
        return Module(name, outputs, inputs, "language", role, outputs if with_bias else 0)

    def vector(name: str, length: int) -> Module:
        return Module(name, length, 1, "language", "other")

    yield Module(prefix + "embed_tokens", shape.vocabulary, shape.hidden, "language", "embedding")
    for layer in range(shape.layers):
        at = f"{prefix}layers.{layer}."
        if family.fused:
            yield linear(at + "self_attn.qkv_proj", shape.attention + 2 * shape.key_value, shape.hidden, "attention")
        else:
            for name, width in (("q", shape.attention), ("k", shape.key_value), ("v", shape.key_value)):
                yield linear(f"{at}self_attn.{name}_proj", width, shape.hidden, "attention", bias or family.qkv_bias)
        yield linear(at + "self_attn.o_proj", shape.hidden, shape.attention, "attention", bias)
        if family.qk_norm:
            yield vector(at + "self_attn.q_norm", head)
            yield vector(at + "self_attn.k_norm", head)
        for name in family.norms:
            yield vector(at + name, shape.hidden)
        if experts:
            yield Module(at + "mlp.experts", experts[0] * 3 * experts[2], shape.hidden, "language", "other")
            yield Module(at + "mlp.gate", experts[0], shape.hidden, "language", "other")
        elif family.fused:
            yield linear(at + "mlp.gate_up_proj", 2 * shape.intermediate, shape.hidden, "mlp")
            yield linear(at + "mlp.down_proj", shape.hidden, shape.intermediate, "mlp")
        else:
            wide = bool(values.get("mlp_bias"))
            yield linear(at + "mlp.gate_proj", shape.intermediate, shape.hidden, "mlp", wide)
            yield linear(at + "mlp.up_proj", shape.intermediate, shape.hidden, "mlp", wide)
            yield linear(at + "mlp.down_proj", shape.hidden, shape.intermediate, "mlp", wide)
    yield vector(prefix + "norm", shape.hidden)


def _vision(
    config: Config, values: dict[str, Any], text: TextShape, approximations: list[str]
) -> tuple[VisionShape, list[Module]]:
    kind = str(config.get("model_type", ""))
    if kind in _VISION:
        shape = _qwen_shape(values)
        modules = _qwen2_5_tower(values, shape) if kind == "qwen2_5_vl" else _qwen3_tower(values, shape)
        return shape, list(modules)
    approximations.append(f"vision tower of {kind or 'an unknown model'}: counted as one shaped like SigLIP")
    given = {key: values[name] for key, names in _TOWER_KEYS.items() for name in reversed(names) if values.get(name)}
    assumed = [key for key in _USUAL_TOWER if key not in given]
    if assumed:
        approximations.append(f"vision_config without {', '.join(assumed)}: the usual sizes are assumed")
    return _usual_tower(config, _USUAL_TOWER | given, text)


def _qwen_shape(values: Config) -> VisionShape:
    patch = _size(values, "patch_size")
    channels = values.get("in_channels") or values.get("in_chans") or 3
    return VisionShape(
        layers=_size(values, "depth"),
        hidden=_size(values, "hidden_size"),
        intermediate=_size(values, "intermediate_size"),
        patch=patch,
        merge=values.get("spatial_merge_size", 2),
        patch_values=channels * values.get("temporal_patch_size", 2) * patch * patch,
    )


def _tower(name: str, outputs: int, inputs: int, role: Role, bias: bool = True) -> Module:
    return Module(name, outputs, inputs, "vision", role, outputs if bias else 0)


def _qwen2_5_tower(values: Config, shape: VisionShape) -> Iterator[Module]:
    at, hidden, wide = "model.visual.", shape.hidden, shape.intermediate
    yield _tower(at + "patch_embed.proj", hidden, shape.patch_values, "other", bias=False)
    for block in range(shape.layers):
        inside = f"{at}blocks.{block}."
        yield _tower(inside + "norm1", hidden, 1, "other", bias=False)
        yield _tower(inside + "norm2", hidden, 1, "other", bias=False)
        yield _tower(inside + "attn.qkv", 3 * hidden, hidden, "attention")
        yield _tower(inside + "attn.proj", hidden, hidden, "attention")
        yield _tower(inside + "mlp.gate_proj", wide, hidden, "mlp")
        yield _tower(inside + "mlp.up_proj", wide, hidden, "mlp")
        yield _tower(inside + "mlp.down_proj", hidden, wide, "mlp")
    merged = hidden * shape.merge**2
    yield _tower(at + "merger.ln_q", hidden, 1, "other", bias=False)
    yield _tower(at + "merger.mlp.0", merged, merged, "connector")
    yield _tower(at + "merger.mlp.2", _size(values, "out_hidden_size"), merged, "connector")


def _qwen3_tower(values: Config, shape: VisionShape) -> Iterator[Module]:
    at, hidden, wide = "model.visual.", shape.hidden, shape.intermediate
    yield _tower(at + "patch_embed.proj", hidden, shape.patch_values, "other")
    yield _tower(at + "pos_embed", _size(values, "num_position_embeddings"), hidden, "embedding", bias=False)
    for block in range(shape.layers):
        inside = f"{at}blocks.{block}."
        yield _tower(inside + "norm1", hidden, 1, "other")
        yield _tower(inside + "norm2", hidden, 1, "other")
        yield _tower(inside + "attn.qkv", 3 * hidden, hidden, "attention")
        yield _tower(inside + "attn.proj", hidden, hidden, "attention")
        yield _tower(inside + "mlp.linear_fc1", wide, hidden, "mlp")
        yield _tower(inside + "mlp.linear_fc2", hidden, wide, "mlp")
    merged = hidden * shape.merge**2
    mergers = [("merger.", hidden)]
    mergers += [(f"deepstack_merger_list.{n}.", merged) for n in range(len(values.get("deepstack_visual_indexes", ())))]
    for name, normed in mergers:
        yield _tower(at + name + "norm", normed, 1, "other")
        yield _tower(at + name + "linear_fc1", merged, merged, "connector")
        yield _tower(at + name + "linear_fc2", _size(values, "out_hidden_size"), merged, "connector")


def _usual_tower(config: Config, values: Config, text: TextShape) -> tuple[VisionShape, list[Module]]:
    """A SigLIP-shaped tower and one projection into the language model."""
    hidden, patch, side = _size(values, "hidden_size"), _size(values, "patch_size"), _size(values, "image_size")
    patches = (side // patch) ** 2
    merge = int(config.get("scale_factor") or config.get("spatial_merge_size") or 1)
    shape = VisionShape(
        layers=_size(values, "num_hidden_layers"),
        hidden=hidden,
        intermediate=_size(values, "intermediate_size"),
        patch=patch,
        merge=merge,
        patch_values=3 * patch * patch,
        fixed_pixels=side,
        fixed_tokens=int(config.get("mm_tokens_per_image") or max(1, patches // merge**2)),
    )
    at = "model.vision_tower."
    modules = [
        _tower(at + "embeddings.patch_embedding", hidden, shape.patch_values, "other"),
        _tower(at + "embeddings.position_embedding", patches, hidden, "embedding", bias=False),
        _tower(at + "post_layernorm", hidden, 1, "other"),
        _tower("model.multi_modal_projector", text.hidden, hidden * merge**2, "connector", bias=False),
    ]
    for layer in range(shape.layers):
        inside = f"{at}layers.{layer}."
        modules += [_tower(f"{inside}layer_norm{n}", hidden, 1, "other") for n in (1, 2)]
        modules += [_tower(f"{inside}self_attn.{n}", hidden, hidden, "attention") for n in _SIGLIP_ATTENTION]
        modules.append(_tower(inside + "mlp.fc1", shape.intermediate, hidden, "mlp"))
        modules.append(_tower(inside + "mlp.fc2", hidden, shape.intermediate, "mlp"))
    return shape, modules


_SIGLIP_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
