"""Reads and checks a TrainingJob from a YAML or JSON file, or from values of the spec.

YAML is read as in Kubernetes: ``2e-5`` is a number.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_camel
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from model_garden.contract.defaults import merge
from model_garden.contract.names import API_VERSION, KIND
from model_garden.contract.resource import InvalidResource, build_resource, parse_resource, parse_spec
from model_garden.contract.spec import TrainingJobSpec


@dataclass
class Job:
    """A checked job: its name, its spec, and the other metadata of its file (namespace, labels)."""

    name: str
    spec: TrainingJobSpec
    metadata: dict[str, Any] = field(default_factory=dict)

    def resource(self, namespace: str | None = None) -> dict[str, Any]:
        """The TrainingJob for the API server."""
        built = build_resource(self.name, self.spec)
        built["metadata"] = {**self.metadata, **built["metadata"]} | ({"namespace": namespace} if namespace else {})
        return built


def read_job(file: str, overrides: dict[str, Any] | None = None) -> Job:
    """The job in a file; ``-`` is stdin. ``overrides`` (a partial spec in camelCase) replaces values of the file.

    Raises:
        InvalidResource: one line for each problem, with the line in the file if it is known.
    """
    return parse_job(read_text(file), "stdin" if file == "-" else file, overrides)


def read_text(file: str) -> str:
    """The text of a file; ``-`` is stdin.

    Raises:
        InvalidResource: the file cannot be read.
    """
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError as failed:
        raise InvalidResource([f"{file}: is not UTF-8 text"]) from failed
    except OSError as failed:
        raise InvalidResource([f"{file}: {failed.strerror}"]) from failed


def parse_job(text: str, source: str, overrides: dict[str, Any] | None = None) -> Job:
    """The job in ``text``, which messages name ``source``.

    Raises:
        InvalidResource: one line for each problem, with the line in the text if it is known.
    """
    document = parse_document(text, source)
    try:
        name, spec = parse_resource(plain(document))
    except InvalidResource as wrong:
        raise InvalidResource([located(problem, document, source) for problem in wrong.problems]) from wrong
    if overrides:
        spec = parse_spec(merge(spec.to_dict(), overrides))
    return Job(name, spec, plain(document["metadata"]))


def job_from_spec(spec: dict[str, Any], name: str | None = None) -> Job:
    """The job of a spec in plain values. Without ``name``, it gets the name of its output folder, else of its data set.

    Raises:
        InvalidResource: one line for each field that is wrong.
    """
    checked = parse_spec(spec)
    return Job(name or job_name(checked), checked)


def job_name(spec: TrainingJobSpec) -> str:
    """A name for a job without one: that of its output folder, else of its data set, as a valid Kubernetes name."""
    source = Path(spec.output_dir).name if spec.output_dir else Path(spec.dataset_path).stem
    name = re.sub(r"[^a-z0-9-]+", "-", source.lower()).strip("-")[:63].strip("-")
    return name or "training"


def parse_document(text: str, source: str) -> Any:
    """The YAML document in ``text``, with its line numbers.

    Raises:
        InvalidResource: ``text`` is not YAML, or does not have one document.
    """
    try:
        documents = [document for document in YAML(typ="rt").load_all(text) if document is not None]
    except YAMLError as failed:
        raise InvalidResource([f"{source}: {yaml_problem(failed)}"]) from failed
    if len(documents) != 1:
        raise InvalidResource([f"{source}: has {len(documents)} YAML documents; give one {KIND} ({API_VERSION})"])
    return documents[0]


def yaml_problem(failed: YAMLError) -> str:
    """The problem of the YAML in one line, with its line number."""
    mark = getattr(failed, "problem_mark", None)
    problem = str(getattr(failed, "problem", None) or failed).splitlines()[0]
    return f"line {mark.line + 1}: {problem}" if mark else problem


def plain(value: Any) -> Any:
    """``value`` in plain types, instead of those of ruamel, which also hold the notation of a number or a string."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value if value is None else str(value)


def located(problem: str, document: Any, source: str) -> str:
    """``problem`` after its source and the line of its field, or of the nearest parent if the field is missing."""
    line = None
    for part in re.findall(r"\w+", problem.split(":", 1)[0]):
        if isinstance(document, list):
            document = document[int(part)] if part.isdigit() and int(part) < len(document) else None
            continue
        key = (
            next((key for key in document if to_camel(str(key)) == part), None) if isinstance(document, dict) else None
        )
        if key is None:
            break
        marks = getattr(getattr(document, "lc", None), "data", None) or {}
        line = marks[key][0] + 1 if key in marks else line
        document = document[key]
    return f"{source}:{line}: {problem}" if line else f"{source}: {problem}"
