"""PURE: a job again, as it was or once for each value of one field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_origin

from model_garden.cluster import Object
from model_garden.contract.fields import SpecField, spec_fields
from model_garden.contract.resource import InvalidResource
from model_garden.services.manifest import Job, parse_document, plain
from model_garden.services.submission import again, next_name

MAX_VARIANTS = 12
_NOT_SWEPT = ("baseModel", "datasetPath", "isVision", "modelType", "outputDir", "suspend")
_FIRST = ("hyperparameters", "loraConfig", "imageOptions")


@dataclass(frozen=True)
class Variant:
    """A job that would be created, and the field in which it differs from the old one with its value as text."""

    job: Job
    change: str


def settings() -> list[str]:
    """The fields that may be varied, by their paths in YAML; those of training first."""
    found = [one.dotted for one in _fields()]
    return sorted(found, key=lambda path: path.partition(".")[0] not in _FIRST)


def variants(old: Object, taken: Sequence[str], field: str, values: str, names: Sequence[str] = ()) -> list[Variant]:
    """A job like ``old``, or one for each of the ``values`` of ``field``.

    Args:
        old: the job.
        taken: names that exist already.
        field: the path of the field in YAML, such as ``hyperparameters.learningRate``; '' to change nothing.
        values: one value, or several with commas between them.
        names: the names that were shown for them; without, the next free ones.

    Raises:
        InvalidResource: a value is missing or wrong, or there are too many.
    """
    if not field:
        name = names[0] if names else next_name(old["metadata"]["name"], list(taken))
        return [Variant(again(old, name, {}), "")]
    if field not in settings():
        raise InvalidResource([f"spec.{field}: cannot be varied; choose one of the listed fields"])
    texts = list(dict.fromkeys(text.strip() for text in values.split(",") if text.strip()))
    if not texts:
        raise InvalidResource([f"spec.{field}: give one value, or several with commas between them"])
    if len(texts) > MAX_VARIANTS:
        raise InvalidResource([f"spec.{field}: {len(texts)} values make {len(texts)} jobs; at most {MAX_VARIANTS}"])
    if len(names) != len(texts):
        names = _free_names(old["metadata"]["name"], taken, len(texts))
    return [
        Variant(again(old, name, _nested(field, _value(field, text))), f"{field}: {text}")
        for name, text in zip(names, texts, strict=True)
    ]


def _free_names(name: str, taken: Sequence[str], count: int) -> list[str]:
    found: list[str] = []
    for _ in range(count):
        found.append(next_name(name, [*taken, *found]))
    return found


def _fields() -> list[SpecField]:
    """The fields that hold one value each."""
    return [one for one in spec_fields() if get_origin(one.type) not in (list, dict) and one.dotted not in _NOT_SWEPT]


def _value(field: str, text: str) -> Any:
    """``text`` as YAML reads it."""
    return plain(parse_document(text, f"spec.{field}"))


def _nested(field: str, value: Any) -> dict[str, Any]:
    *groups, last = field.split(".")
    nested: dict[str, Any] = {last: value}
    for group in reversed(groups):
        nested = {group: nested}
    return nested
