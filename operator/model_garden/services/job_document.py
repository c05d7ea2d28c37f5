"""A TrainingJob as the REST API writes it: one flat mapping in snake_case, read in either spelling.

The fields of the spec stand beside ``name`` and ``labels``; a job that exists also has its phase and its status.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from model_garden.contract.fields import camel_case, snake_case
from model_garden.contract.names import API_VERSION, KIND
from model_garden.contract.resource import InvalidResource, parse_resource
from model_garden.contract.spec import EffectiveSpec, TrainingJobSpec
from model_garden.contract.status import Phase, TrainingJobStatus
from model_garden.services.job_view import explanation, phase
from model_garden.services.manifest import Job, job_from_spec
from model_garden.services.submission import check_paths

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"


class TrainingJobRequest(TrainingJobSpec):
    """A job to create: its name and the fields of its spec. Only ``base_model`` and ``dataset_path`` are required."""

    name: str | None = Field(
        None,
        pattern=NAME_PATTERN,
        max_length=253,
        description="Name of the job. Default: the last part of output_dir, else of dataset_path.",
    )
    labels: dict[str, str] | None = Field(None, description="Kubernetes labels of the job.")


class TrainingJobDocument(TrainingJobSpec):
    """A job as it stands: what was asked for, and how far it is."""

    id: str = Field(description="The same as name.")
    name: str = Field(description="Name of the job.")
    namespace: str = Field(description="Namespace of the job.")
    uid: str = Field(description="Unique in the cluster's lifetime, unlike the name.")
    creation_timestamp: str = Field(description="When the job was created.")
    deletion_timestamp: str | None = Field(None, description="When its deletion was asked for.")
    labels: dict[str, str] | None = Field(None, description="Kubernetes labels of the job.")
    phase: Phase = Field(description="Where the job stands.")
    message: str = Field(description="Why the job is in its phase.")
    status: TrainingJobStatus = Field(description="What the operator reports. effective_spec shows every default.")


def read_document(document: object) -> Job:
    """The job that a request describes.

    Raises:
        InvalidResource: one line for each thing that is wrong.
    """
    if not isinstance(document, dict):
        raise InvalidResource([f"a {KIND} is an object of fields; got {document!r}"])
    spec = dict(document)
    metadata = {key: spec.pop(key) for key in ("name", "labels") if key in spec}
    metadata = {key: value for key, value in metadata.items() if value is not None}
    if "name" not in metadata:
        metadata["name"] = job_from_spec(spec).name
    name, checked = parse_resource({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec})
    labels = metadata.get("labels", {})
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise InvalidResource([f"metadata.labels: must be an object of strings; got {labels!r}"])
    job = Job(name, checked, {"labels": labels} if labels else {})
    check_paths(job)
    return job


def read_changes(document: object) -> tuple[str | None, dict[str, Any]]:
    """The name of a new job, where one is given, and a partial spec in camelCase; null removes a field.

    Raises:
        InvalidResource: the document is no mapping of fields.
    """
    if not isinstance(document, dict):
        raise InvalidResource([f"changes are an object of fields; got {document!r}"])
    changes = dict(document)
    name = changes.pop("name", None)
    if name is not None and not isinstance(name, str):
        raise InvalidResource([f"metadata.name: must be a string; got {name!r}"])
    return name, camel_case(changes, TrainingJobSpec)


def document_of(job: dict[str, Any]) -> dict[str, Any]:
    """The plain resource ``job`` as a ``TrainingJobDocument``."""
    metadata = job["metadata"]
    spec: dict[str, Any] = snake_case(job["spec"], TrainingJobSpec)
    status = snake_case(job.get("status") or {}, TrainingJobStatus)
    if "effective_spec" in status:
        status["effective_spec"] = snake_case(status["effective_spec"], EffectiveSpec)
    described = {
        "id": metadata["name"],
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "uid": metadata["uid"],
        "creation_timestamp": metadata["creationTimestamp"],
        "deletion_timestamp": metadata.get("deletionTimestamp"),
        "labels": metadata.get("labels"),
        "phase": phase(job),
        "message": explanation(job),
    }
    given = {key: value for key, value in described.items() if value is not None}
    return given | spec | {"status": status}
