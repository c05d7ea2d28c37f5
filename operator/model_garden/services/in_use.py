"""Which jobs still need a folder of the workspace."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from model_garden.cluster import Cluster, Object
from model_garden.contract.rule import get
from model_garden.services.errors import Conflict
from model_garden.services.job_view import has_ended
from model_garden.services.queries import list_jobs

FIELDS = ("datasetPath", "validationDatasetPath", "evaluation.datasetPath", "baseModel", "adapterPath", "outputDir")


async def refuse_in_use(cluster: Cluster, namespace: str, path: str) -> None:
    """Refuse to delete what a job still reads or writes.

    Raises:
        Conflict: a job that has not ended uses the path, what is below it, or the folder that it is in.
        ClusterError: the API server refused.
    """
    if users := await jobs_using(cluster, namespace, path):
        raise Conflict(f"{path} is used by {', '.join(users)}; wait until it has ended, or cancel it")


async def jobs_using(cluster: Cluster, namespace: str, path: str) -> list[str]:
    """``users_of`` among the jobs of a namespace.

    Raises:
        ClusterError: the API server refused.
    """
    return users_of(await list_jobs(cluster, namespace), path)


def users_of(jobs: Iterable[Object], path: str) -> list[str]:
    """The names of the jobs that have not ended and use the path, what is below it, or the folder that it is in."""
    return [job["metadata"]["name"] for job in jobs if not has_ended(job) and _uses(job, _parts(path))]


def _uses(job: Object, parts: list[str]) -> bool:
    spec = {"outputDir": f"./models/{job['metadata']['name']}"} | job["spec"]
    used = (_parts(path) for field in FIELDS if (path := get(spec, field)))
    return any(one[: len(parts)] == parts or parts[: len(one)] == one for one in used)


def _parts(path: str) -> list[str]:
    return posixpath.normpath(path.removeprefix("/workspace/")).split("/")
