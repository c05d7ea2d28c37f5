"""Creates TrainingJobs, from a file, from flags, or from an old job."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from model_garden.cluster import TRAINING_JOBS, Cluster, ClusterError, Object
from model_garden.contract.defaults import merge
from model_garden.contract.names import KIND, LABEL_IDEMPOTENCY_KEY
from model_garden.contract.resource import InvalidResource, parse_spec
from model_garden.contract.spec import outside_workspace
from model_garden.services.errors import Conflict
from model_garden.services.manifest import Job, job_from_spec, read_job
from model_garden.services.queries import find_job, list_jobs


def job_to_submit(overrides: dict[str, Any], *, file: str | None = None, name: str | None = None) -> Job:
    """The job of a file, with its values replaced by ``overrides`` (a partial spec in camelCase); see ``check_paths``.

    Raises:
        InvalidResource: one line for each problem.
    """
    if file is None:
        job = job_from_spec(overrides, name)
    else:
        job = read_job(file, overrides)
        job.name = name or job.name
    return job


def check_paths(job: Job) -> None:
    """Refuse paths that no pod can see.

    Raises:
        InvalidResource: one line for each path outside the workspace.
    """
    if problems := outside_workspace(job.spec):
        raise InvalidResource(problems)


async def create_job(cluster: Cluster, job: Job, namespace: str, *, dry_run: bool = False) -> Object:
    """Create the job, or with ``dry_run`` only let the API server check it, and return the server's version.

    Raises:
        Conflict: the namespace has a job of this name.
        ClusterError: the API server refused.
    """
    try:
        return await cluster.create(TRAINING_JOBS, job.resource(namespace), dry_run=dry_run)
    except ClusterError as refused:
        if refused.reason != "AlreadyExists":
            raise
        raise Conflict(f"namespace {namespace} already has a {KIND} {job.name}") from refused


async def job_to_rerun(
    cluster: Cluster, namespace: str, name: str, changes: dict[str, Any], *, new_name: str | None = None
) -> Job:
    """A new job with the spec of the job ``name`` and ``changes``. Default of ``new_name``: the next free name.

    Raises:
        NotFound: there is no job ``name``.
        InvalidResource: one line for each problem of the changes.
        ClusterError: the API server refused.
    """
    old = await find_job(cluster, namespace, name)
    taken = [job["metadata"]["name"] for job in await list_jobs(cluster, namespace)]
    return again(old, new_name or next_name(old["metadata"]["name"], taken), changes)


def again(old: Object, name: str, changes: dict[str, Any]) -> Job:
    """A job ``name`` with the spec of ``old`` and ``changes``.

    Unless ``changes`` gives an output folder, it is beside that of ``old``, so that the new run does not overwrite it.

    Raises:
        InvalidResource: one line for each problem of the changes.
    """
    spec = {key: value for key, value in old["spec"].items() if key != "suspend"}
    if "outputDir" in spec:
        beside = str(PurePosixPath(spec["outputDir"]).with_name(name))
        spec["outputDir"] = beside if beside.startswith("/") else f"./{beside}"
    labels = {
        key: value for key, value in (old["metadata"].get("labels") or {}).items() if key != LABEL_IDEMPOTENCY_KEY
    }
    job = Job(name, parse_spec(merge(spec, changes)), {"labels": labels} if labels else {})
    check_paths(job)
    return job


def next_name(name: str, taken: list[str]) -> str:
    """The next free name: ``receipts-2`` after ``receipts``, ``receipts-3`` after ``receipts-2``.

    >>> next_name("receipts", ["receipts", "receipts-2"])
    'receipts-3'
    """
    base, number = re.fullmatch(r"(.*?)(?:-(\d+))?", name).groups()  # type: ignore[union-attr]
    following = int(number or 1) + 1
    while f"{base}-{following}" in taken:
        following += 1
    return f"{base}-{following}"
