"""Computes the modules of a model and their sizes from its config.json, with the names of transformers.

``formulas.py`` counts the bytes, the quantized bytes and the LoRA parameters of these modules. The layouts are those of
``transformers.models.*.modeling_*`` 5.17. They are exact for the families of ``families.py`` and ``towers.py``. Any
other model is counted as Llama-shaped text with a SigLIP-shaped vision tower, and ``Model.approximations`` says so.
"""

from __future__ import annotations

from model_garden.estimate.modules import Config, Model, Module
from model_garden.estimate.text_modules import Experts, TextModules, text_shape
from model_garden.estimate.towers import tower
from model_garden.families import FAMILIES, Family


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
    prefix = "model.language_model." if config.get("vision_config") else "model."
    shape = text_shape(values)
    if experts := Experts.of(values):
        approximations.append(f"{experts.count} experts a layer: counted in 16 bit and without adapters")
    modules = list(TextModules(values, shape, family or Family(), prefix))
    vision = None
    if config.get("vision_config"):
        vision, seeing = tower(config, shape, approximations)
        modules += seeing
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings", given.get("tie_word_embeddings", False)))
    if not tied:
        modules.append(Module("lm_head", shape.vocabulary, shape.hidden, "language", "head"))
    return Model(shape, vision, tuple(modules), tuple(approximations))


def _text_config(config: Config) -> Config:
    """The config of the language model: nested in newer files, at the top level in older ones."""
    return config.get("text_config") or config.get("llm_config") or config
