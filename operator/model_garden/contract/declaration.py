"""The declaration of a field of the spec: its meaning, its default, and whether it shapes the trained weights.

``defaults.py``, ``kubectl explain``, ``--help``, the reference table and the fingerprint of a run all read these
declarations, so that each fact about a field is written once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field
from pydantic.fields import FieldInfo

_KEY = "declaration"


@dataclass(frozen=True)
class Default:
    """The default of a field, which may depend on the model, on the hardware and on the training method.

    Args:
        value: for a text model, and for every job that no other argument is for; None if a text model has no default.
        vision: for a vision model.
        large_vision: for a vision model of 70 billion parameters and more.
        gpu: on a GPU, for every model; ``value`` is then the default on a CPU.
        methods: by training method, before all arguments above.
        full: where all weights are trained (``adapter: none``), before all other arguments.
    """

    value: Any = None
    vision: Any = None
    large_vision: Any = None
    gpu: Any = None
    methods: Mapping[str, Any] = field(default_factory=dict)
    full: Any = None

    @property
    def plain(self) -> Any:
        """The default where nothing makes it another; that of a vision model for a field that only those have."""
        return self.vision if self.value is None else self.value

    def of(self, *, vision: bool, large: bool, gpu: bool, method: str = "sft", full: bool = False) -> Any:
        """The default of one job."""
        if full and self.full is not None:
            return self.full
        if method in self.methods:
            return self.methods[method]
        if gpu and self.gpu is not None:
            return self.gpu
        if vision and large and self.large_vision is not None:
            return self.large_vision
        return self.vision if vision and self.vision is not None else self.value

    def words(self) -> str:
        """The default as text: ``2e-4 (text), 2e-5 (vision)``."""
        if self.value is None and self.vision is None:  # a field that only these methods have
            return ", ".join(dict.fromkeys(map(shown, self.methods.values())))
        named: dict[str, list[str]] = {}
        for method, value in self.methods.items():
            named.setdefault(shown(value), []).append(method)
        words = [self._words(), *(f"{value} ({', '.join(methods)})" for value, methods in named.items())]
        return ", ".join(words + ([f"{shown(self.full)} (adapter: none)"] if self.full is not None else []))

    def _words(self) -> str:
        if self.gpu is not None:
            return f"{shown(self.gpu)} (GPU), {shown(self.value)} (CPU)"
        if self.vision is None and self.large_vision is None:
            return shown(self.value)
        if self.value is None:
            return shown(self.vision)
        if self.vision is None:
            return f"{shown(self.value)}; {shown(self.large_vision)} for vision models of 70B and more"
        parts = [f"{shown(self.value)} (text)", f"{shown(self.vision)} (vision)"]
        if self.large_vision is not None:
            parts.append(f"{shown(self.large_vision)} (vision, 70B and more)")
        return ", ".join(parts)


@dataclass(frozen=True)
class Declaration:
    """The arguments of ``declare`` for one field."""

    meaning: str
    default: Default | None
    default_words: str | None
    shapes_weights: bool


def declare(
    meaning: str,
    default: Any = None,
    *,
    shapes_weights: bool,
    default_words: str | None = None,
    required: bool = False,
    **constraints: Any,
) -> Any:
    """A pydantic field of the spec.

    Args:
        meaning: the meaning, in sentences that end with a period.
        default: a value, or a ``Default`` if it depends on the job; None if the operator computes it, or if the field
            is off unless given.
        shapes_weights: whether the trained weights depend on the value. Such a field is part of a run's fingerprint: a
            checkpoint made with another value is not resumed.
        default_words: the text for a default that is computed.
        required: whether every job must give the field.
        constraints: those of pydantic (``ge``, ``max_length``, …).
    """
    if default is not None and not isinstance(default, Default):
        default = Default(default)
    words = default_words or (default.words() if default else None)
    given: dict[str, Any] = {} if required else {"default": None}
    return Field(
        **given,
        description=f"{meaning} Default: {words}." if words else meaning,
        json_schema_extra={_KEY: Declaration(meaning, default, words, shapes_weights)},  # type: ignore[dict-item]
        **constraints,
    )


def declaration_of(field: FieldInfo) -> Declaration | None:
    """The declaration of a field; None for a field that Kubernetes defines."""
    extra = field.json_schema_extra
    found = extra.get(_KEY) if isinstance(extra, dict) else None
    return found if isinstance(found, Declaration) else None


def shown(value: Any) -> str:
    """A value as people write it: ``true``, ``2e-5``."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and 0 < value < 1e-3:
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:g}" if isinstance(value, float) else str(value)
