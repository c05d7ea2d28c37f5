"""The modules of other image encoders (and of Gemma 4's audio encoder), with the names of transformers."""

from __future__ import annotations

from collections.abc import Iterator

from model_garden.estimate.modules import Config, Module, TextShape, VisionShape, gated_mlp, size, tower_module

_SIGLIP_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
_FOUR = ("q_proj", "k_proj", "v_proj", "o_proj")


def _plain_shape(values: Config, merge: int, tokens: int | None, pixels: int | None) -> VisionShape:
    patch = size(values, "patch_size")
    return VisionShape(
        layers=size(values, "num_hidden_layers"),
        hidden=size(values, "hidden_size"),
        intermediate=size(values, "intermediate_size"),
        patch=patch,
        merge=merge,
        patch_values=3 * patch * patch,
        fixed_pixels=pixels,
        fixed_tokens=tokens,
    )


def _siglip_layers(at: str, values: Config) -> Iterator[Module]:
    hidden, wide = size(values, "hidden_size"), size(values, "intermediate_size")
    for layer in range(size(values, "num_hidden_layers")):
        inside = f"{at}layers.{layer}."
        yield from (tower_module(f"{inside}layer_norm{n}", hidden, 1, "other") for n in (1, 2))
        yield from (tower_module(f"{inside}self_attn.{n}", hidden, hidden, "attention") for n in _SIGLIP_ATTENTION)
        yield tower_module(inside + "mlp.fc1", wide, hidden, "mlp")
        yield tower_module(inside + "mlp.fc2", hidden, wide, "mlp")


def _siglip(values: Config) -> Iterator[Module]:
    at, hidden, patch = "model.vision_tower.", size(values, "hidden_size"), size(values, "patch_size")
    places = (size(values, "image_size") // patch) ** 2
    yield tower_module(at + "embeddings.patch_embedding", hidden, 3 * patch * patch, "other")
    yield tower_module(at + "embeddings.position_embedding", places, hidden, "embedding", bias=False)
    yield tower_module(at + "post_layernorm", hidden, 1, "other")
    yield from _siglip_layers(at, values)


def idefics(config: Config, values: Config, text: TextShape) -> tuple[VisionShape, Iterator[Module]]:
    """SigLIP and one projection, as Idefics 3 and SmolVLM have them."""
    merge = int(config.get("scale_factor") or config.get("spatial_merge_size") or 1)
    side = size(values, "image_size")
    places = (side // size(values, "patch_size")) ** 2
    tokens = int(config.get("mm_tokens_per_image") or max(1, places // merge**2))
    shape = _plain_shape(values, merge, tokens, side)

    def modules() -> Iterator[Module]:
        yield from _siglip(values)
        inputs = shape.hidden * merge**2
        yield tower_module("model.multi_modal_projector", text.hidden, inputs, "connector", bias=False)

    return shape, modules()


def gemma3(config: Config, values: Config, text: TextShape) -> tuple[VisionShape, Iterator[Module]]:
    """SigLIP as Gemma 3 has it."""
    side = size(values, "image_size")
    shape = _plain_shape(values, 1, int(config.get("mm_tokens_per_image") or 256), side)

    def modules() -> Iterator[Module]:
        hidden, wide = shape.hidden, shape.intermediate
        yield from _siglip(values)
        if values.get("vision_use_head", True):
            at = "model.vision_tower.head."
            yield tower_module(at + "probe", hidden, 1, "other", bias=False)
            yield tower_module(at + "attention.in_proj", 3 * hidden, hidden, "other")
            yield tower_module(at + "attention.out_proj", hidden, hidden, "other")
            yield tower_module(at + "layernorm", hidden, 1, "other")
            yield tower_module(at + "mlp.fc1", wide, hidden, "other")
            yield tower_module(at + "mlp.fc2", hidden, wide, "other")
        yield tower_module("model.multi_modal_projector", text.hidden, hidden, "other", bias=False)
        yield tower_module("model.multi_modal_projector.mm_soft_emb_norm", hidden, 1, "other", bias=False)

    return shape, modules()


def pixtral(config: Config, values: Config, text: TextShape) -> tuple[VisionShape, Iterator[Module]]:
    """The encoder of Pixtral, and of Mistral 3."""
    newer = config.get("model_type") == "mistral3"
    merge = int(config.get("spatial_merge_size") or 2) if newer else 1
    shape = _plain_shape(values, merge, None, None)

    def modules() -> Iterator[Module]:
        at, hidden = "model.vision_tower.", shape.hidden
        yield tower_module(at + "patch_conv", hidden, shape.patch_values, "other", bias=False)
        yield tower_module(at + "ln_pre", hidden, 1, "other", bias=False)
        for layer in range(shape.layers):
            inside = f"{at}transformer.layers.{layer}."
            yield from (
                tower_module(inside + n, hidden, 1, "other", bias=False) for n in ("attention_norm", "ffn_norm")
            )
            yield from (tower_module(f"{inside}attention.{n}", hidden, hidden, "attention", bias=False) for n in _FOUR)
            for name, outputs, inputs in gated_mlp(hidden, shape.intermediate):
                yield tower_module(f"{inside}feed_forward.{name}", outputs, inputs, "mlp", bias=False)
        join, bias = "model.multi_modal_projector.", bool(config.get("multimodal_projector_bias", not newer))
        if newer:
            yield tower_module(join + "norm", hidden, 1, "other", bias=False)
            yield tower_module(join + "patch_merger.merging_layer", hidden, hidden * merge**2, "connector", bias=False)
        yield tower_module(join + "linear_1", text.hidden, hidden, "connector", bias)
        yield tower_module(join + "linear_2", text.hidden, text.hidden, "connector", bias)

    return shape, modules()


def internvl(config: Config, values: Config, text: TextShape) -> tuple[VisionShape, Iterator[Module]]:
    """InternViT."""
    side, patch = size(values, "image_size"), size(values, "patch_size")
    merge, places = round(1 / config.get("downsample_ratio", 0.5)), (side // patch) ** 2
    shape = _plain_shape(values, merge, places // merge**2, side)

    def modules() -> Iterator[Module]:
        at, hidden, wide = "model.vision_tower.", shape.hidden, shape.intermediate
        layered = values.get("norm_type", "layer_norm") == "layer_norm"
        bias = bool(values.get("attention_bias"))
        yield tower_module(at + "embeddings", places + 2, hidden, "embedding", bias=False)
        yield tower_module(at + "embeddings.patch_embeddings.projection", hidden, shape.patch_values, "other")
        for layer in range(shape.layers):
            inside = f"{at}encoder.layer.{layer}."
            yield tower_module(inside.rstrip("."), 2 * hidden, 1, "other", bias=False)
            names = ("layernorm_before", "layernorm_after")
            yield from (tower_module(inside + name, hidden, 1, "other", bias=layered) for name in names)
            yield from (tower_module(f"{inside}attention.{n}", hidden, hidden, "attention", bias) for n in _FOUR[:3])
            yield tower_module(inside + "attention.projection_layer", hidden, hidden, "attention")
            if values.get("use_qk_norm"):
                yield from (
                    tower_module(f"{inside}attention.{n}", hidden, 1, "other", bias=False) for n in ("q_norm", "k_norm")
                )
            yield tower_module(inside + "mlp.fc1", wide, hidden, "mlp")
            yield tower_module(inside + "mlp.fc2", hidden, wide, "mlp")
        if not values.get("use_mean_pooling", True):
            yield tower_module(at + "layernorm", hidden, 1, "other")
        join, merged = "model.multi_modal_projector.", hidden * merge**2
        yield tower_module(join + "layer_norm", merged, 1, "other")
        yield tower_module(join + "linear_1", text.hidden, merged, "connector")
        yield tower_module(join + "linear_2", text.hidden, text.hidden, "connector")

    return shape, modules()


def _blocks(at: str, values: Config, layers: int, *, bias: bool) -> Iterator[Module]:
    """Blocks of Llama's image encoders."""
    hidden, wide = size(values, "hidden_size"), size(values, "intermediate_size")
    for layer in range(layers):
        inside = f"{at}layers.{layer}."
        yield from (
            tower_module(inside + n, hidden, 1, "other") for n in ("input_layernorm", "post_attention_layernorm")
        )
        yield from (tower_module(f"{inside}self_attn.{n}", hidden, hidden, "attention", bias) for n in _FOUR)
        yield tower_module(inside + "mlp.fc1", wide, hidden, "mlp")
        yield tower_module(inside + "mlp.fc2", hidden, wide, "mlp")


def llama4(_config: Config, values: Config, text: TextShape) -> tuple[VisionShape, Iterator[Module]]:
    """The encoder of Llama 4."""
    side, patch = size(values, "image_size"), size(values, "patch_size")
    places, ratio = (side // patch) ** 2, values.get("pixel_shuffle_ratio", 0.5)
    shape = _plain_shape(values, round(1 / ratio), round(places * ratio**2), side)

    def modules() -> Iterator[Module]:
        at, hidden = "model.vision_model.", shape.hidden
        inputs, out = size(values, "projector_input_dim"), size(values, "projector_output_dim")
        yield tower_module(at.rstrip("."), places + 2, hidden, "embedding", bias=False)
        yield tower_module(at + "patch_embedding.linear", hidden, shape.patch_values, "other", bias=False)
        yield from (tower_module(at + name, hidden, 1, "other") for name in ("layernorm_pre", "layernorm_post"))
        yield from _blocks(at + "model.", values, shape.layers, bias=True)
        yield tower_module(at + "vision_adapter.mlp.fc1", inputs, shape.intermediate, "mlp", bias=False)
        yield tower_module(at + "vision_adapter.mlp.fc2", out, out, "mlp", bias=False)
        outputs = size(values, "vision_output_dim")
        yield tower_module("model.multi_modal_projector.linear_1", text.hidden, outputs, "connector", bias=False)

    return shape, modules()


def mllama(_config: Config, values: Config, text: TextShape) -> tuple[VisionShape, Iterator[Module]]:
    """The encoder of Llama 3.2 Vision."""
    side, tiles = size(values, "image_size"), size(values, "max_num_tiles")
    places = (side // size(values, "patch_size")) ** 2 + 1
    shape = _plain_shape(values, 1, 1, side * 2)  # an image is one token and at most four tiles

    def modules() -> Iterator[Module]:
        at, hidden, ratios = (
            "model.vision_model.",
            shape.hidden,
            len(values.get("supported_aspect_ratios") or [0] * 8) + 1,
        )
        yield tower_module(at + "patch_embedding", hidden, shape.patch_values, "other", bias=False)
        yield tower_module(at + "gated_positional_embedding", places + 1, hidden, "embedding", bias=False)
        yield tower_module(
            at + "gated_positional_embedding.tile", ratios, tiles * places * hidden, "embedding", bias=False
        )
        for name in ("pre_tile_positional_embedding", "post_tile_positional_embedding"):
            yield tower_module(at + name, ratios, tiles * hidden, "embedding", bias=False)
        yield tower_module(at + "gates", 3, 1, "other", bias=False)
        yield from (tower_module(at + name, hidden, 1, "other") for name in ("layernorm_pre", "layernorm_post"))
        yield from _blocks(at + "transformer.", values, shape.layers, bias=False)
        wide = size(values, "num_global_layers")
        yield from _blocks(at + "global_transformer.", values, wide, bias=False)
        yield tower_module(at + "global_transformer.gates", 2 * wide, 1, "other", bias=False)
        yield tower_module("model.multi_modal_projector", text.hidden, size(values, "vision_output_dim"), "connector")

    return shape, modules()


def minicpm(_config: Config, values: Config, text: TextShape) -> tuple[VisionShape, Iterator[Module]]:
    """The encoder of MiniCPM-V 4.6."""
    shape = _plain_shape(values, 4, None, None)

    def modules() -> Iterator[Module]:
        hidden, four = shape.hidden, 4 * shape.hidden
        yield from _siglip(values)
        at = "model.vision_tower.vit_merger."
        yield tower_module(at + "layer_norm1", hidden, 1, "other")
        yield from (tower_module(f"{at}self_attn.{n}", hidden, hidden, "connector") for n in _SIGLIP_ATTENTION)
        yield tower_module(at + "pre_norm", four, 1, "other")
        yield tower_module(at + "linear_1", 4 * shape.intermediate, four, "connector")
        yield tower_module(at + "linear_2", hidden, 4 * shape.intermediate, "connector")
        yield tower_module("model.merger.mlp.0.pre_norm", four, 1, "other")
        yield tower_module("model.merger.mlp.0.linear_1", four, four, "connector")
        yield tower_module("model.merger.mlp.0.linear_2", text.hidden, four, "connector")

    return shape, modules()


def gemma4(config: Config, values: Config, text: TextShape) -> tuple[VisionShape, Iterator[Module]]:
    """The encoders of Gemma 4, for images and for audio."""
    patch, tokens, pool = size(values, "patch_size"), 280, int(values.get("pooling_kernel_size") or 3)
    shape = _plain_shape(values, pool, tokens, patch * round((tokens * pool**2) ** 0.5))
    audio = config.get("audio_config")

    def modules() -> Iterator[Module]:
        at, hidden, head = "model.vision_tower.", shape.hidden, size(values, "head_dim")
        heads, shared = size(values, "num_attention_heads"), size(values, "num_key_value_heads")
        yield tower_module(at + "patch_embedder.input_proj", hidden, shape.patch_values, "other", bias=False)
        places = 2 * size(values, "position_embedding_size")
        yield tower_module(at + "patch_embedder", places, hidden, "embedding", bias=False)
        for layer in range(shape.layers):
            inside = f"{at}encoder.layers.{layer}."
            yield tower_module(inside.rstrip("."), 4 * hidden + 2 * head, 1, "other", bias=False)
            yield tower_module(inside + "self_attn.q_proj.linear", heads * head, hidden, "attention", bias=False)
            for name in ("k_proj", "v_proj"):
                yield tower_module(f"{inside}self_attn.{name}.linear", shared * head, hidden, "attention", bias=False)
            yield tower_module(inside + "self_attn.o_proj.linear", hidden, heads * head, "attention", bias=False)
            for name, outputs, inputs in gated_mlp(hidden, shape.intermediate):
                yield tower_module(f"{inside}mlp.{name}.linear", outputs, inputs, "mlp", bias=False)
        yield tower_module("model.embed_vision.embedding_projection", text.hidden, hidden, "connector", bias=False)
        if audio:
            yield from _gemma4_audio(audio, text)

    return shape, modules()


def _gemma4_audio(values: Config, text: TextShape) -> Iterator[Module]:
    """The audio encoder, layer by layer; it is loaded, and never adapted."""
    at, hidden, out = "model.audio_tower.", size(values, "hidden_size"), size(values, "output_proj_dims")
    first, second = values.get("subsampling_conv_channels") or (128, 32)
    head, kernel = hidden // size(values, "num_attention_heads"), int(values.get("conv_kernel_size", 5))
    for layer in range(size(values, "num_hidden_layers")):
        norms = 9 * hidden + head
        matrices = 2 * 8 * hidden**2 + 3 * hidden**2 + kernel * hidden + 5 * hidden**2
        yield tower_module(f"{at}layers.{layer}", norms + matrices, 1, "other", bias=False)
    convolutions = 9 * first + first + 9 * first * second + second
    yield tower_module(at + "subsample_conv_projection", convolutions, 1, "other", bias=False)
    inputs = first // 4 * second
    yield tower_module(at + "subsample_conv_projection.input_proj_linear", hidden, inputs, "other", bias=False)
    yield tower_module(at + "output_proj", out, hidden, "other")
    yield tower_module("model.embed_audio.embedding_projection", text.hidden, out, "connector", bias=False)
