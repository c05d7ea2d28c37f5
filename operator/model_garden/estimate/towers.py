"""The image encoder of a model by its config.json."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from model_garden.estimate.modules import Config, Module, TextShape, VisionShape
from model_garden.estimate.other_towers import gemma3, gemma4, idefics, internvl, llama4, minicpm, mllama, pixtral
from model_garden.estimate.qwen_towers import glm, qwen2_5, qwen3

USUAL = {
    "num_hidden_layers": 27,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "patch_size": 14,
    "image_size": 448,
}
"""Sizes of an image encoder whose config.json leaves them out."""
_KEYS = {key: (key,) for key in USUAL} | {
    "num_hidden_layers": ("num_hidden_layers", "depth"),
    "hidden_size": ("embed_dim", "hidden_size"),
}
_Reader = Callable[[Config, Config, TextShape], tuple[VisionShape, Iterator[Module]]]
_TOWERS: dict[str, _Reader] = {
    "qwen2_5_vl": qwen2_5,
    "qwen3_vl": qwen3,
    "qwen3_5": qwen3,
    "glm4v": glm,
    "glm46v": glm,
    "gemma3": gemma3,
    "gemma4": gemma4,
    "idefics3": idefics,
    "smolvlm": idefics,
    "pixtral": pixtral,
    "internvl": internvl,
    "llama4": llama4,
    "mllama": mllama,
    "minicpmv4_6": minicpm,
}
"""By ``model_type`` of config.json; ``pixtral`` by that of its vision_config."""


def tower(config: Config, text: TextShape, approximations: list[str]) -> tuple[VisionShape, list[Module]]:
    """The image encoder of a model, and what joins it to the language model.

    Args:
        config: the parsed config.json, with a ``vision_config``.
        text: the sizes of the language model.
        approximations: gets what was assumed.
    """
    kind, values = str(config.get("model_type", "")), dict(config["vision_config"])
    if str(values.get("model_type")) == "pixtral":
        kind = "pixtral"
    if kind in _TOWERS:
        shape, modules = _TOWERS[kind](config, values, text)
        return shape, list(modules)
    approximations.append(f"vision tower of {kind or 'an unknown model'}: counted as one shaped like SigLIP")
    given = {key: values[name] for key, names in _KEYS.items() for name in reversed(names) if values.get(name)}
    assumed = [key for key in USUAL if key not in given]
    if assumed:
        approximations.append(f"vision_config without {', '.join(assumed)}: the usual sizes are assumed")
    shape, modules = idefics(config, USUAL | given, text)
    return shape, list(modules)
