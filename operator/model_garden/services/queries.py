"""Lists, finds and watches the TrainingJobs of a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from difflib import get_close_matches

from model_garden.cluster import TRAINING_JOBS, Cluster, ClusterError, Object, Snapshot, list_and_watch
from model_garden.contract.names import API_VERSION, GROUP, KIND
from model_garden.services.errors import NotFound
from model_garden.services.job_view import has_ended

LATEST = "@latest"
"""Instead of a name: the TrainingJob that was created last."""


async def list_jobs(cluster: Cluster, namespace: str | None) -> list[Object]:
    """The jobs of a namespace, or for None of all namespaces, oldest first."""
    return by_age((await cluster.list(TRAINING_JOBS, namespace)).items)


async def find_job(cluster: Cluster, namespace: str, name: str) -> Object:
    """The job ``name``, or the newest job for ``@latest``.

    Raises:
        NotFound: there is no such job. The message suggests a similar name.
        ClusterError: the API server refused.
    """
    if name == LATEST:
        jobs = await list_jobs(cluster, namespace)
        if not jobs:
            raise NotFound(f"namespace {namespace} has no {KIND}")
        return jobs[-1]
    try:
        return await cluster.get(TRAINING_JOBS, name, namespace)
    except ClusterError as refused:
        if refused.reason != "NotFound":
            raise
        hint = await _similar_name(cluster, namespace, name)
        raise NotFound(f"namespace {namespace} has no {KIND} {name!r}{hint}") from refused


async def _similar_name(cluster: Cluster, namespace: str, name: str) -> str:
    """A suggestion for a name that is not there; empty where there is none, or where the caller may not list jobs."""
    try:
        names = [job["metadata"]["name"] for job in await list_jobs(cluster, namespace)]
    except ClusterError:
        return ""
    similar = get_close_matches(name, names, n=1)
    return f"; did you mean {similar[0]}?" if similar else ""


async def watch_job(cluster: Cluster, job: Object) -> AsyncIterator[Object]:
    """The job now and after each change, until it has ended.

    Raises:
        NotFound: the job was deleted, even if another job has its name now.
        ClusterError: the API server refused.
    """
    name, namespace, uid = (job["metadata"][key] for key in ("name", "namespace", "uid"))
    async for change in list_and_watch(cluster, TRAINING_JOBS, namespace, fields=f"metadata.name={name}"):
        if isinstance(change, Snapshot):
            candidates = list(change.items)
        else:
            candidates = [change.object] if change.type != "DELETED" else []
        found = [item for item in candidates if item["metadata"]["uid"] == uid]
        if not found:
            raise NotFound(f"{KIND} {name} was deleted")
        yield found[0]
        if has_ended(found[0]):
            return


def by_age(jobs: list[Object]) -> list[Object]:
    """Jobs in the order in which they were created."""
    return sorted(jobs, key=lambda job: (job["metadata"]["creationTimestamp"], job["metadata"]["name"]))


def reference(name: str) -> str:
    """A name as in the output of ``kubectl``: ``trainingjob.model-garden.dev/receipts``."""
    return f"{KIND.lower()}.{GROUP}/{name}"


def complete(job: Object) -> Object:
    """A job with apiVersion and kind, which items of a list do not have, and without ``managedFields``."""
    metadata = {key: value for key, value in job["metadata"].items() if key != "managedFields"}
    return {"apiVersion": API_VERSION, "kind": KIND} | job | {"metadata": metadata}
