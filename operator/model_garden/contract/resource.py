"""The whole TrainingJob as in YAML: apiVersion, kind, metadata and spec."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

from model_garden.contract.model import explain
from model_garden.contract.names import API_VERSION, KIND
from model_garden.contract.spec import TrainingJobSpec

_SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""A name in Kubernetes (RFC 1123). The output folder has it too, so it must not be a path."""


class InvalidResource(ValueError):
    """A resource that breaks the contract; ``problems`` has one line for each field that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def parse_spec(spec: object) -> TrainingJobSpec:
    """Check a spec in either spelling.

    Raises:
        InvalidResource: with one line for each field that is wrong.
    """
    try:
        return TrainingJobSpec.model_validate(spec)
    except ValidationError as error:
        raise InvalidResource(explain(error, TrainingJobSpec)) from error


def parse_resource(document: object) -> tuple[str, TrainingJobSpec]:
    """Check a whole resource and return its name and spec.

    Raises:
        InvalidResource: with one line for each problem.
    """
    if not isinstance(document, dict):
        raise InvalidResource([f"a {KIND} is a mapping with apiVersion, kind, metadata and spec; got {document!r}"])
    problems = [
        f"{key}: must be {wanted}; got {document.get(key)!r}"
        for key, wanted in (("apiVersion", API_VERSION), ("kind", KIND))
        if document.get(key) != wanted
    ]
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        problems.append("metadata.name: required field is missing")
    elif not _SUBDOMAIN.fullmatch(name):
        problems.append(
            f"metadata.name: {name!r} is not a Kubernetes name; use at most 253 lowercase letters, digits, '-' and "
            "'.', with a letter or digit at both ends"
        )
    if document.get("spec") is None:
        raise InvalidResource([*problems, "spec: required field is missing"])
    try:
        spec = parse_spec(document["spec"])
    except InvalidResource as error:
        problems += error.problems
    if problems:
        raise InvalidResource(problems)
    return str(name), spec


def build_resource(name: str, spec: TrainingJobSpec, namespace: str | None = None) -> dict[str, Any]:
    """A TrainingJob as plain values, ready to be written as YAML or sent to the API server."""
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec.to_dict()}
