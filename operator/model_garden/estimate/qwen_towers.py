"""The modules of the image encoders of Qwen and GLM, with the names of transformers."""

from __future__ import annotations

from collections.abc import Iterator

from model_garden.estimate.modules import Config, Module, TextShape, VisionShape, gated_mlp, size, tower_module


def _qwen_shape(values: Config) -> VisionShape:
    patch = size(values, "patch_size")
    channels = values.get("in_channels") or values.get("in_chans") or 3
    return VisionShape(
        layers=size(values, "depth"),
        hidden=size(values, "hidden_size"),
        intermediate=size(values, "intermediate_size"),
        patch=patch,
        merge=values.get("spatial_merge_size", 2),
        patch_values=channels * values.get("temporal_patch_size", 2) * patch * patch,
    )


def qwen2_5(_config: Config, values: Config, _text: TextShape) -> tuple[VisionShape, Iterator[Module]]:
    """The encoder of Qwen2.5-VL."""
    shape = _qwen_shape(values)
    return shape, _qwen2_5_modules(values, shape)


def _qwen2_5_modules(values: Config, shape: VisionShape) -> Iterator[Module]:
    at, hidden = "model.visual.", shape.hidden
    yield tower_module(at + "patch_embed.proj", hidden, shape.patch_values, "other", bias=False)
    yield from _gated_blocks(at, shape, bias=True)
    merged = hidden * shape.merge**2
    yield tower_module(at + "merger.ln_q", hidden, 1, "other", bias=False)
    yield tower_module(at + "merger.mlp.0", merged, merged, "connector")
    yield tower_module(at + "merger.mlp.2", size(values, "out_hidden_size"), merged, "connector")


def _gated_blocks(at: str, shape: VisionShape, *, bias: bool) -> Iterator[Module]:
    hidden, wide = shape.hidden, shape.intermediate
    for block in range(shape.layers):
        inside = f"{at}blocks.{block}."
        yield tower_module(inside + "norm1", hidden, 1, "other", bias=False)
        yield tower_module(inside + "norm2", hidden, 1, "other", bias=False)
        yield tower_module(inside + "attn.qkv", 3 * hidden, hidden, "attention", bias)
        yield tower_module(inside + "attn.proj", hidden, hidden, "attention", bias)
        yield tower_module(inside + "mlp.gate_proj", wide, hidden, "mlp", bias)
        yield tower_module(inside + "mlp.up_proj", wide, hidden, "mlp", bias)
        yield tower_module(inside + "mlp.down_proj", hidden, wide, "mlp", bias)


def qwen3(_config: Config, values: Config, _text: TextShape) -> tuple[VisionShape, Iterator[Module]]:
    """The encoder of Qwen3-VL and Qwen3.5."""
    shape = _qwen_shape(values)
    return shape, _qwen3_modules(values, shape)


def _qwen3_modules(values: Config, shape: VisionShape) -> Iterator[Module]:
    at, hidden, wide = "model.visual.", shape.hidden, shape.intermediate
    yield tower_module(at + "patch_embed.proj", hidden, shape.patch_values, "other")
    yield tower_module(at + "pos_embed", size(values, "num_position_embeddings"), hidden, "embedding", bias=False)
    for block in range(shape.layers):
        inside = f"{at}blocks.{block}."
        yield tower_module(inside + "norm1", hidden, 1, "other")
        yield tower_module(inside + "norm2", hidden, 1, "other")
        yield tower_module(inside + "attn.qkv", 3 * hidden, hidden, "attention")
        yield tower_module(inside + "attn.proj", hidden, hidden, "attention")
        yield tower_module(inside + "mlp.linear_fc1", wide, hidden, "mlp")
        yield tower_module(inside + "mlp.linear_fc2", hidden, wide, "mlp")
    merged = hidden * shape.merge**2
    mergers = [("merger.", hidden)]
    mergers += [(f"deepstack_merger_list.{n}.", merged) for n in range(len(values.get("deepstack_visual_indexes", ())))]
    for name, normed in mergers:
        yield tower_module(at + name + "norm", normed, 1, "other")
        yield tower_module(at + name + "linear_fc1", merged, merged, "connector")
        yield tower_module(at + name + "linear_fc2", size(values, "out_hidden_size"), merged, "connector")


def glm(_config: Config, values: Config, _text: TextShape) -> tuple[VisionShape, Iterator[Module]]:
    """The encoder of GLM-4.1V and GLM-4.6V."""
    shape = _qwen_shape(values)
    return shape, _glm_modules(values, shape)


def _glm_modules(values: Config, shape: VisionShape) -> Iterator[Module]:
    at, hidden, out = "model.visual.", shape.hidden, size(values, "out_hidden_size")
    places = (size(values, "image_size") // shape.patch) ** 2
    yield tower_module(at + "patch_embed.proj", hidden, shape.patch_values, "other")
    yield tower_module(at + "embeddings.position_embedding", places, hidden, "embedding", bias=False)
    # GLM's config names the width of the merger; the blocks are as wide as out_hidden_size.
    blocks = VisionShape(**{**vars(shape), "intermediate": out})
    yield from _gated_blocks(at, blocks, bias=bool(values.get("attention_bias")))
    yield tower_module(at + "post_conv_layernorm", hidden, 1, "other", bias=False)
    yield tower_module(at + "post_layernorm", hidden, 1, "other", bias=False)
    yield tower_module(at + "downsample", out, hidden * shape.merge**2, "other")
    yield tower_module(at + "merger.proj", out, out, "connector", bias=False)
    yield tower_module(at + "merger.post_projection_norm", out, 1, "other")
    for name, outputs, inputs in gated_mlp(out, shape.intermediate):
        yield tower_module(at + "merger." + name, outputs, inputs, "connector", bias=False)
