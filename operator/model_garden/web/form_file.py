"""PURE: the form's values for a TrainingJob in YAML or JSON."""

from __future__ import annotations

from io import StringIO
from typing import Any

from ruamel.yaml import YAML

from model_garden.contract.names import KIND
from model_garden.contract.resource import InvalidResource
from model_garden.services.job_document import read_document
from model_garden.services.manifest import Job, located, parse_document, parse_job, plain
from model_garden.web import form

SOURCE = "YAML"
"""What messages call the text."""
TAKEN = {"name", "labels", "namespace"}
"""Metadata that the form has a place for."""


def from_file(text: str, namespace: str) -> tuple[dict[str, str], list[str]]:
    """The values of a job in ``text``, and one sentence for each thing that the form does not take.

    ``text`` is a TrainingJob as for ``kubectl apply``, or a body of the REST API.

    Raises:
        InvalidResource: one line for each problem, with the field and the line of the text.
    """
    if not text.strip():
        raise InvalidResource([f"{SOURCE}: is empty; paste a {KIND}"])
    job = _read(text)
    values = form.values_of(job.spec.to_dict()) | {"name": job.name}
    if labels := job.metadata.get("labels"):
        values[form.YAML_FIELD] = values.get(form.YAML_FIELD, "") + _yaml({"labels": labels})
    notices = [
        f"metadata.{key} is not taken over: the form has no place for it. Submit the file with model-garden submit."
        for key in job.metadata
        if key not in TAKEN
    ]
    if (other := job.metadata.get("namespace", namespace)) != namespace:
        notices.append(f"The file names the namespace {other}; this page creates the job in {namespace}.")
    return values, notices


def _read(text: str) -> Job:
    document = parse_document(text, SOURCE)
    read = plain(document)
    if not isinstance(read, dict) or "kind" in read or "spec" in read:
        return parse_job(text, SOURCE)
    try:
        return read_document(read)
    except InvalidResource as wrong:
        lines = [located(line.replace("spec.", "", 1), document, SOURCE) for line in wrong.problems]
        raise InvalidResource(lines) from wrong


def _yaml(value: Any) -> str:
    stream = StringIO()
    YAML().dump(value, stream)
    return stream.getvalue()
