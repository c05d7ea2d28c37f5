"""Every field of the spec, read from the models: for defaults, flags, the reference page and the fingerprint."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.alias_generators import to_camel, to_snake

from model_garden.contract.declaration import Declaration, Default, declaration_of
from model_garden.contract.evaluation import Evaluation
from model_garden.contract.model import field_path
from model_garden.contract.spec import TrainingJobSpec

OPTIONAL_GROUPS: tuple[type[BaseModel], ...] = (Evaluation,)
"""Groups without a required field that have defaults only where they are given."""


@dataclass(frozen=True)
class SpecField:
    """One field of the spec that holds a value, not a group of fields.

    ``path`` is in snake_case. ``type`` is without None and constraints. ``declaration`` is None for a field that
    Kubernetes defines. ``in_optional_group`` is true for a field of a group with a required field, or one of
    ``OPTIONAL_GROUPS``: a job has such a group only if it is given.
    """

    path: tuple[str, ...]
    type: Any
    required: bool
    declaration: Declaration | None
    in_optional_group: bool = False

    @property
    def meaning(self) -> str:
        """The meaning of the field."""
        return self.declaration.meaning if self.declaration else "As in Kubernetes."

    @property
    def default(self) -> Default | None:
        """The default; None if there is none, or if the operator computes it."""
        return self.declaration.default if self.declaration else None

    @property
    def default_words(self) -> str:
        """The default as text; empty if there is none."""
        return (self.declaration and self.declaration.default_words) or ""

    @property
    def dotted(self) -> str:
        """The path as in YAML: ``hyperparameters.learningRate``."""
        return field_path(self.path)


def spec_fields(model: type[BaseModel] = TrainingJobSpec, prefix: tuple[str, ...] = ()) -> Iterator[SpecField]:
    """The fields of ``model`` in the order of the source, with those of a nested model in place of it."""
    required_fields = any(field.is_required() for field in model.model_fields.values())
    in_optional_group = bool(prefix) and (required_fields or model in OPTIONAL_GROUPS)
    for name, field in model.model_fields.items():
        kind = plain_type(field.annotation)
        path = (*prefix, name)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from spec_fields(kind, path)
        else:
            required = field.is_required() and not prefix
            yield SpecField(path, kind, required, declaration_of(field), in_optional_group)


@cache
def _spellings(model: type[BaseModel]) -> dict[str, tuple[str, str, Any]]:
    """Of each field, by both its spellings: its name in snake_case and in camelCase, and its plain type."""
    found = {}
    for name, field in model.model_fields.items():
        found[name] = found[field.alias or name] = (name, field.alias or name, plain_type(field.annotation))
    return found


def snake_case(value: Any, kind: Any) -> Any:
    """A document of the model ``kind`` in snake_case. Keys that are data, such as labels, stay as they are.

    Nothing is checked, so that what a newer version wrote is still shown.
    """
    return _respelled(value, kind, 0)


def camel_case(value: Any, kind: Any) -> Any:
    """A document of the model ``kind``, in either spelling, in camelCase; nothing is checked."""
    return _respelled(value, kind, 1)


def _respelled(value: Any, kind: Any, spelling: int) -> Any:
    if isinstance(value, list) and get_origin(kind) is list:
        (item_kind,) = get_args(kind)
        return [_respelled(item, item_kind, spelling) for item in value]
    if not (isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, BaseModel)):
        return value
    table = _spellings(kind)
    unknown = (to_snake, to_camel)[spelling]
    result = {}
    for key, inner in value.items():
        known = table.get(key)
        name = known[spelling] if known else unknown(str(key))
        nested = known is not None and isinstance(inner, (dict, list))  # most values of a long list are not
        result[name] = _respelled(inner, known[2], spelling) if known and nested else inner
    return result


def plain_type(annotation: Any) -> Any:
    """``annotation`` without None and ``Annotated``; a union of several other types is unchanged."""
    if get_origin(annotation) is Annotated:
        return plain_type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        return plain_type(parts[0]) if len(parts) == 1 else annotation
    if get_origin(annotation) is list:
        return list[plain_type(get_args(annotation)[0])]  # type: ignore[misc]
    return annotation


def type_words(kind: Any) -> str:
    """A type as text: ``number``, ``4bit / 8bit``, ``list of string``, ``map of quantity``."""
    words = {str: "string", int: "integer", float: "number", bool: "boolean", int | str: "quantity"}
    kind = plain_type(kind)
    if kind in words:
        return words[kind]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind.__name__
    if get_origin(kind) is Literal:
        return " / ".join(get_args(kind))
    inner = get_args(kind)
    if get_origin(kind) is list:
        return f"list of {type_words(inner[0])}"
    return f"map of {type_words(inner[1])}" if inner and inner[1] is not Any else "object"


def markdown_table() -> str:
    """The table of fields for the reference page."""
    rows = ["| field | type | meaning | default |", "|---|---|---|---|"]
    for field in spec_fields():
        name = f"`{field.dotted}`" + (" (required)" if field.required else "")
        rows.append(f"| {name} | {type_words(field.type)} | {field.meaning} | {field.default_words} |")
    return "\n".join(rows)
