"""What a job will need, before it exists: memory, the nodes that have it, and disk space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from model_garden.cluster import NODES, Cluster, ClusterError
from model_garden.contract.defaults import effective_spec
from model_garden.contract.memory_estimate import Estimate, RowShape
from model_garden.contract.model import explain
from model_garden.contract.resource import InvalidResource
from model_garden.contract.spec import EffectiveSpec
from model_garden.estimate.disk import most_checkpoints, output_space
from model_garden.estimate.estimate import estimate
from model_garden.estimate.gpus import Node, gpu_memory_gib, nodes_that_fit
from model_garden.estimate.steps import optimizer_steps
from model_garden.services.job_document import TrainingJobRequest, read_document
from model_garden.services.manifest import Job
from model_garden.services.model_config import read_download_size, read_model_config
from model_garden.services.savings import Saving, savings


class EstimateRequest(TrainingJobRequest):
    """A job, and what is known of its model and data."""

    base_model_config: dict[str, Any] | None = Field(
        None, description="Parsed config.json of the base model. Default: the Hub's."
    )
    largest_row: RowShape | None = Field(
        None, description="Largest row of the data set. Default: a row of max_seq_length tokens."
    )


class NodeFit(BaseModel):
    """A node with GPUs, and whether the job can run there."""

    name: str
    """Name of the node."""
    gpus: int
    """GPUs that it can allocate."""
    gpu_memory_gib: float | None = None
    """Memory of one GPU in GiB, where the node's labels say it."""
    fits: bool
    """Whether the job can run on it."""


class DiskPart(BaseModel):
    """A part of what a job writes to its output folder."""

    name: str
    """Name of the part."""
    size_bytes: int
    """Size in bytes."""


class EstimateResponse(BaseModel):
    """The memory and the disk space that a job needs, and the nodes that have the memory."""

    estimate: Estimate
    """Memory, part by part."""
    nodes: list[NodeFit] | None = None
    """Nodes with GPUs; missing where the caller may not list nodes."""
    savings: list[Saving]
    """Changes that save memory; the last is all of them at once, if there are several."""
    output: list[DiskPart]
    """Most that the output folder holds at any time, part by part."""
    download_bytes: int | None = None
    """Size of the base model's files on the Hub; missing for another model, and where the Hub does not say it."""


@dataclass(frozen=True)
class Question:
    """An ``EstimateRequest``, checked."""

    job: Job
    config: dict[str, Any] | None
    row: RowShape | None


def read_question(document: object) -> Question:
    """Check an ``EstimateRequest``.

    Raises:
        InvalidResource: one line for each thing that is wrong.
    """
    given = dict(document) if isinstance(document, dict) else {}
    config, row = given.pop("base_model_config", None), given.pop("largest_row", None)
    job = read_document(given if isinstance(document, dict) else document)
    if config is not None and not isinstance(config, dict):
        raise InvalidResource([f"spec.base_model_config: must be an object; got {config!r}"])
    try:
        return Question(job, config, None if row is None else RowShape.model_validate(row))
    except ValidationError as wrong:
        raise InvalidResource(explain(wrong, RowShape, "spec.largest_row")) from wrong


async def estimate_job(question: Question, nodes: list[Node] | None) -> dict[str, Any]:
    """The ``EstimateResponse`` of a job, as plain values.

    Args:
        question: the job, and what is known of its model and data.
        nodes: the cluster's nodes; None where they are not known.

    Raises:
        InvalidResource: the config says nothing that an estimate could be made of.
        Unavailable: the config cannot be read.
    """
    spec = effective_spec(question.job.spec, question.job.name)
    config, row = question.config, question.row
    if config is None:
        config = await read_model_config(spec)
    checkpoints = most_checkpoints(spec, 0) if spec.hyperparameters.max_steps > 0 else None
    try:
        found = estimate(spec, config, rows=row)
        output = output_space(spec, config, checkpoints=checkpoints)
    except ValueError as wrong:
        raise InvalidResource([f"spec.base_model_config: {wrong}"]) from wrong
    answer: dict[str, Any] = {
        "estimate": found.to_snake_dict(),
        "savings": savings(question.job, config, row),
        "output": [{"name": part.name, "size_bytes": round(part.size)} for part in output],
    }
    if question.config is None and (download := await read_download_size(spec)):
        answer["download_bytes"] = download
    resource = spec.gpu_resource
    if nodes is not None and resource:
        fitting = {node.name for node in nodes_that_fit(found, nodes, gpus=spec.gpus, resource=resource)}
        answer["nodes"] = [node_fit(node, resource, node.name in fitting) for node in nodes if resource in node.gpus]
    return answer


def planned_steps(spec: EffectiveSpec, rows: int) -> int:
    """The steps of a job whose data set has ``rows`` rows, of which some may be held out for evaluation."""
    held_out = max(1, round(rows * spec.validation_fraction)) if spec.validation_fraction else 0
    return optimizer_steps(spec, rows - held_out)


async def all_nodes(cluster: Cluster) -> list[Node] | None:
    """The cluster's nodes; None where the caller may not list them, or where there is no cluster."""
    try:
        return [Node.read(node) for node in (await cluster.list(NODES)).items]
    except ClusterError as refused:
        if refused.status not in (403, 404):
            raise
        return None


def node_fit(node: Node, resource: str, fits: bool) -> dict[str, Any]:
    """A ``NodeFit`` as plain values."""
    memory = gpu_memory_gib(node.labels, resource)
    known = {} if memory is None else {"gpu_memory_gib": round(memory, 1)}
    return {"name": node.name, "gpus": node.gpus[resource]} | known | {"fits": fits}
