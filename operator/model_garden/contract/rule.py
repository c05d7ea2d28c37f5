"""One rule on several fields of the spec, and what rules are written with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """One rule.

    Args:
        field: the path of the field that the message is about, as in YAML.
        broken: whether a spec breaks the rule.
        cel: a CEL expression that is true for a spec that does not break it.
        message: what is wrong with the field's value, and the fix.
    """

    field: str
    broken: Callable[[Document], bool]
    cel: str
    message: str

    def problem(self, spec: Document) -> str:
        """The message, with the field and its value, for a spec that breaks the rule."""
        value = get(spec, self.field)
        shown = "" if isinstance(value, dict) else f"{_shown(value)} "
        return f"spec.{self.field}: {shown}{self.message}"


def get(spec: Document, path: str) -> Any:
    """The value at a dotted path; None if it was not given."""
    found: Any = spec
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def has(path: str) -> str:
    """A CEL expression that is true if the field at ``path`` was given."""
    keys = path.split(".")
    return " && ".join(f"has(self.{'.'.join(keys[: n + 1])})" for n in range(len(keys)))


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def is_vision(spec: Document) -> bool:
    """Whether a spec trains a vision-language model."""
    given = spec.get("isVision")
    return bool(spec.get("modelType") == "vision" if given is None else given)


def method_of(spec: Document) -> str:
    """The training method of a spec."""
    return str(spec.get("method", "sft"))


VISION = "(has(self.isVision) ? self.isVision : (has(self.modelType) && self.modelType == 'vision'))"
"""A CEL expression that is true for a vision-language model."""
