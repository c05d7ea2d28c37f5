"""The base class of every model of the contract, and the messages for values that break a schema.

Every model has two spellings: camelCase in YAML and in the cluster, snake_case in Python and REST.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel


class ContractModel(BaseModel):
    """A model that reads both spellings, writes camelCase by default, and refuses an unknown field or a loose type.

    Types are strict because the API server's are: the string ``"2e-5"`` is not a number, and ``"yes"`` is no boolean.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        strict=True,
        protected_namespaces=(),
        use_enum_values=True,
        allow_inf_nan=False,
    )

    def to_dict(self) -> dict[str, Any]:
        """The model as plain JSON values in camelCase, without values that are None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_snake_dict(self) -> dict[str, Any]:
        """``to_dict`` in snake_case, as in the REST API."""
        return self.model_dump(mode="json", by_alias=False, exclude_none=True)


class Report(ContractModel):
    """A message between two parts. A field that a newer version added is ignored, and all others are read."""

    model_config = ConfigDict(extra="ignore", use_attribute_docstrings=True)


def field_path(location: Iterable[int | str], root: str = "") -> str:
    """``("hyperparameters", "learning_rate")`` as ``hyperparameters.learningRate``; a number is an index."""
    path = root
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith("function-"):
            path += ("." if path else "") + to_camel(part)
    return path


def explain(error: ValidationError, model: type[BaseModel], root: str = "spec") -> list[str]:
    """One line for each problem: the field, the rule, the value, and for an unknown field the most similar known one.

    Args:
        error: what pydantic raised for ``model``.
        model: the model that was validated; its field names are the suggestions.
        root: the first part of the field paths.
    """
    return [_explain_one(dict(item), model, root) for item in error.errors(include_url=False)]


def _explain_one(item: dict[str, Any], model: type[BaseModel], root: str) -> str:
    location = tuple(item["loc"])
    path = field_path(location, root)
    if item["type"] == "extra_forbidden":
        known = list(_field_names(_model_at(model, location[:-1])))
        near = difflib.get_close_matches(to_camel(str(location[-1])), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known fields: {', '.join(sorted(known))}"
        return f"{path}: unknown field; {hint}"
    if item["type"] == "missing":
        return f"{path}: required field is missing"
    if item["type"] in ("model_type", "model_attributes_type"):
        return f"{path}: must be a mapping of fields; got {item['input']!r}"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "value_error":
        return message if message.startswith(root or path) else f"{path}: {message}"
    return f"{path}: {message}; got {item['input']!r}"


def _field_names(model: type[BaseModel] | None) -> Iterator[str]:
    for name, field in (model.model_fields if model else {}).items():
        yield field.alias or name


def _model_at(model: type[BaseModel] | None, location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The model at ``location``, through optional and list annotations; None if there is none."""
    for part in location:
        if model is None:
            return None
        if isinstance(part, int):
            continue
        by_name = {field.alias or name: field for name, field in model.model_fields.items()} | dict(model.model_fields)
        model = _nested_model(by_name[part].annotation) if part in by_name else None
    return model


def _nested_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _nested_model(part))), None)
