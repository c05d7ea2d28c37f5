"""A job as people give it, in a file, as flags or as ``--set key=value``: read into a name and a checked spec.

YAML is read as Kubernetes reads it (YAML 1.2 numbers: ``2e-5`` is one). Flags lie over the file, ``--set`` over both.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_camel
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from model_garden.cli.output import CommandError
from model_garden.contract.defaults import merge
from model_garden.contract.names import API_VERSION, KIND
from model_garden.contract.resource import InvalidResource, build_resource, parse_resource, parse_spec
from model_garden.contract.spec import TrainingJobSpec


class Job:
    """A checked job: its name, its namespace if the file gave one, its spec, and the labels that travel with it."""

    def __init__(self, name: str, spec: TrainingJobSpec, metadata: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.spec = spec
        self.metadata = dict(metadata or {})

    def resource(self, namespace: str | None = None) -> dict[str, Any]:
        """The whole TrainingJob, ready to be sent."""
        built = build_resource(self.name, self.spec)
        built["metadata"] = {**self.metadata, **built["metadata"]} | ({"namespace": namespace} if namespace else {})
        return built


def read_job(file: str, overrides: dict[str, Any] | None = None) -> Job:
    """The job in a YAML or JSON file, ``-`` for stdin, with ``overrides`` (a partial spec in camelCase) laid over it.

    Raises:
        CommandError: one line for each thing that is wrong, with the file's line where it is known.
    """
    document = read_document(file)
    try:
        name, spec = parse_resource(plain(document))
    except InvalidResource as wrong:
        raise CommandError([located(problem, document, file) for problem in wrong.problems]) from wrong
    if overrides:
        spec = checked(merge(spec.to_dict(), overrides))
    return Job(name, spec, plain(document["metadata"]))


def job_from_flags(given: dict[str, Any], name: str | None = None) -> Job:
    """The job that flags describe; its name comes from the output folder, else from the data set.

    Raises:
        CommandError: one line for each thing that is wrong, named by the flag that gives it.
    """
    spec = checked(given)
    return Job(name or job_name(spec), spec)


def checked(given: dict[str, Any]) -> TrainingJobSpec:
    """The spec in ``given``.

    Raises:
        CommandError: one line for each thing that is wrong, named by its flag where it has one.
    """
    try:
        return parse_spec(given)
    except InvalidResource as wrong:
        from model_garden.cli.spec_flags import with_flag

        raise CommandError([with_flag(problem) for problem in wrong.problems]) from wrong


def job_name(spec: TrainingJobSpec) -> str:
    """A name for a job that has none: of its output folder, else of its data set, in the letters Kubernetes allows."""
    source = Path(spec.output_dir).name if spec.output_dir else Path(spec.dataset_path).stem
    name = re.sub(r"[^a-z0-9-]+", "-", source.lower()).strip("-")[:63].strip("-")
    return name or "training"


def read_document(file: str) -> Any:
    """The one YAML document in ``file``, its line numbers kept.

    Raises:
        CommandError: the file is missing, is no YAML, or holds several documents.
    """
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as failed:
        reason = failed.strerror if isinstance(failed, OSError) else "is not UTF-8 text"
        raise CommandError(f"{file}: {reason}") from failed
    try:
        documents = [document for document in YAML(typ="rt").load_all(text) if document is not None]
    except YAMLError as failed:
        raise CommandError(f"{file}: {_yaml_problem(failed)}") from failed
    if len(documents) != 1:
        raise CommandError(f"{file}: holds {len(documents)} documents; give one {KIND} ({API_VERSION})")
    return documents[0]


def _yaml_problem(failed: YAMLError) -> str:
    mark = getattr(failed, "problem_mark", None)
    problem = str(getattr(failed, "problem", None) or failed).splitlines()[0]
    return f"line {mark.line + 1}: {problem}" if mark else problem


def plain(value: Any) -> Any:
    """``value`` without ruamel's own types, which remember how a number or a string was written."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value if value is None else str(value)


def located(problem: str, document: Any, file: str) -> str:
    """``problem`` with the file and the line of the field it speaks of, so far as that field is in the document."""
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
    where = file if file != "-" else "stdin"
    return f"{where}:{line}: {problem}" if line else f"{where}: {problem}"


def parse_sets(pairs: list[str] | None) -> dict[str, Any]:
    """``["hyperparameters.maxSteps=3"]`` as a partial spec; a value is read as YAML, ``null`` takes a field away.

    Raises:
        CommandError: a pair without ``=`` or without a field.
    """
    result: dict[str, Any] = {}
    for pair in pairs or []:
        path, equals, text = pair.partition("=")
        keys = [to_camel(key) for key in path.strip().removeprefix("spec.").split(".")]
        if not equals or not all(keys):
            raise CommandError(f"--set {pair}: give field=value, such as hyperparameters.maxSteps=100")
        try:
            value = plain(YAML(typ="safe", pure=True).load(text))
        except YAMLError as failed:
            raise CommandError(f"--set {pair}: {_yaml_problem(failed)}") from failed
        for key in reversed(keys):
            value = {key: value}
        result = merge(result, value)
    return result
