"""The modules of a model with their sizes, and the shapes that the formulas use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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


def size(values: Config, *keys: str) -> int:
    """The first of ``keys`` that ``values`` has; of the sides of a square, one.

    Raises:
        ValueError: none is there, or it is no positive whole number.
    """
    for key in keys:
        if values.get(key) is not None:
            value = values[key]
            if isinstance(value, list) and len(set(value)) == 1:
                value = value[0]
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"config.json: {key} must be a positive whole number; got {value!r}")
            return value
    raise ValueError(f"config.json: {' or '.join(keys)} is missing, so the size of the model is unknown")


def tower_module(name: str, outputs: int, inputs: int, role: Role, bias: bool = True) -> Module:
    """A module of an image encoder."""
    return Module(name, outputs, inputs, "vision", role, outputs if bias else 0)


def gated_mlp(hidden: int, wide: int) -> list[tuple[str, int, int]]:
    """Name, outputs and inputs of the matrices of a gated MLP."""
    return [("gate_proj", wide, hidden), ("up_proj", wide, hidden), ("down_proj", hidden, wide)]
