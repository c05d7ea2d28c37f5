"""Changes to an existing TrainingJob, which the operator makes."""

from __future__ import annotations

from typing import Literal

from model_garden.cluster import TRAINING_JOBS, Cluster, Object
from model_garden.contract.names import ANNOTATION_CANCEL, ANNOTATION_STOP
from model_garden.services.errors import Conflict
from model_garden.services.job_view import has_ended, phase
from model_garden.services.queries import find_job

Change = Literal["stop", "cancel", "suspend", "resume"]
CHANGES: dict[Change, Object] = {
    "stop": {"metadata": {"annotations": {ANNOTATION_STOP: "save"}}},
    "cancel": {"metadata": {"annotations": {ANNOTATION_CANCEL: "true"}}},
    "suspend": {"spec": {"suspend": True}},
    "resume": {"spec": {"suspend": False}},
}
"""The merge patch that requests each change."""


async def change_job(cluster: Cluster, namespace: str, name: str, change: Change) -> Object:
    """Request a change, and return the patched job.

    Raises:
        NotFound: there is no such job.
        Conflict: the job has ended.
        ClusterError: the API server refused.
    """
    job = await find_job(cluster, namespace, name)
    if has_ended(job):
        raise Conflict(f"{job['metadata']['name']} has already ended: {phase(job)}")
    return await cluster.patch(TRAINING_JOBS, job["metadata"]["name"], CHANGES[change], namespace)


async def delete_job(cluster: Cluster, namespace: str, name: str) -> Object:
    """Delete a job and its pods, and return the deleted job.

    Raises:
        NotFound: there is no such job.
        ClusterError: the API server refused.
    """
    job = await find_job(cluster, namespace, name)
    await cluster.delete(TRAINING_JOBS, job["metadata"]["name"], namespace, uid=job["metadata"]["uid"])
    return job
