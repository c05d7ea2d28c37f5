"""What a job will need before it exists: its memory, and the nodes that have it."""

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
from model_garden.estimate.estimate import estimate
from model_garden.estimate.gpus import Node, gpu_memory_gib, nodes_that_fit
from model_garden.estimate.steps import optimizer_steps
from model_garden.services.job_document import TrainingJobRequest, read_document
from model_garden.services.manifest import Job
from model_garden.services.model_config import read_model_config


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


class EstimateResponse(BaseModel):
    """The memory that a job needs, and the nodes that have it."""

    estimate: Estimate
    """Memory, part by part."""
    nodes: list[NodeFit] | None = None
    """Nodes with GPUs; missing where the caller may not list nodes."""


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


async def estimate_memory(cluster: Cluster, question: Question) -> dict[str, Any]:
    """The ``EstimateResponse`` of a job, as plain values.

    Raises:
        InvalidResource: the config says nothing that an estimate could be made of.
        Unavailable: the config cannot be read.
    """
    nodes = await _nodes(cluster)  # first: the API server checks who asks
    spec = effective_spec(question.job.spec, question.job.name)
    config = question.config or await read_model_config(spec)
    try:
        found = estimate(spec, config, rows=question.row)
    except ValueError as wrong:
        raise InvalidResource([f"spec.base_model_config: {wrong}"]) from wrong
    answer: dict[str, Any] = {"estimate": found.to_snake_dict()}
    resource = spec.gpu_resource
    if nodes is not None and resource:
        fitting = {node.name for node in nodes_that_fit(found, nodes, gpus=spec.gpus, resource=resource)}
        answer["nodes"] = [node_fit(node, resource, node.name in fitting) for node in nodes if resource in node.gpus]
    return answer


def planned_steps(spec: EffectiveSpec, rows: int) -> int:
    """The steps of a job whose data set has ``rows`` rows, of which some may be held out for evaluation."""
    held_out = max(1, round(rows * spec.validation_fraction)) if spec.validation_fraction else 0
    return optimizer_steps(spec, rows - held_out)


async def _nodes(cluster: Cluster) -> list[Node] | None:
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
