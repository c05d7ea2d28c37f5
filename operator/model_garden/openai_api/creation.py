"""Creates the TrainingJob of a request, once however often the client sends it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from model_garden.api.access import Caller
from model_garden.cluster import TRAINING_JOBS
from model_garden.contract.names import LABEL_OPENAI_REQUEST
from model_garden.openai_api.files import dataset_path
from model_garden.openai_api.mapping import says_kind, training_job
from model_garden.openai_api.request import CreateJob
from model_garden.openai_api.vision import trains_vision
from model_garden.services.manifest import Job
from model_garden.services.queries import by_age
from model_garden.services.repeatable import create_once

Object = dict[str, Any]

RETRY_WINDOW = timedelta(minutes=15)
"""How long before a retry its first request may have created the job: a client waits ten minutes for an answer."""


async def create(caller: Caller, request: CreateJob, *, key: str | None, retried: bool) -> Object:
    """Create the job of ``request``, or find the one that the same request created before.

    OpenAI's clients send no Idempotency-Key of their own, but they say when they send a request again. Equal requests
    that are no retries each create a job, as at OpenAI.

    Args:
        caller: who asks.
        request: the request, checked.
        key: its Idempotency-Key.
        retried: whether the client has sent it before.

    Raises:
        Invalid: a parameter contradicts another.
        InvalidResource: a value breaks a rule of the TrainingJob.
        KeyReused: the key belongs to another request.
        ClusterError: the API server refused.
    """
    job = await _job(caller, request)
    if key is None:
        digest = hashlib.sha256(request.model_dump_json(exclude_none=True).encode()).hexdigest()[:32]
        equal = f"{LABEL_OPENAI_REQUEST}={digest}"
        earlier = by_age((await caller.cluster.list(TRAINING_JOBS, caller.namespace, labels=equal)).items)
        if retried and earlier and _is_recent(earlier[-1]):
            return earlier[-1]
        job.metadata["labels"] = {**job.metadata.get("labels", {}), LABEL_OPENAI_REQUEST: digest}
        # The retry of a request that is still being answered gets the same key, and so the same name.
        key = f"{digest} after {earlier[-1]['metadata']['uid'] if earlier else 'none'}"
    return (await create_once(caller.cluster, job, caller.namespace, named=False, key=key)).job


async def _job(caller: Caller, request: CreateJob) -> Job:
    dataset = await dataset_path(caller, "training_file", request.training_file)
    validation = request.validation_file
    if validation is not None:
        validation = await dataset_path(caller, "validation_file", validation)
    vision = not says_kind(request) and await trains_vision(caller, request.model, dataset)
    return training_job(request, dataset, validation, vision=vision)


def _is_recent(job: Object) -> bool:
    created = datetime.fromisoformat(job["metadata"]["creationTimestamp"])
    return datetime.now(UTC) - created < RETRY_WINDOW
