"""The TrainingJobs that wait, the oldest first, and why each of them does."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from model_garden.contract.pod import gpus_of
from model_garden.contract.status import Phase
from model_garden.services.job_view import Object, explanation, phase
from model_garden.services.queries import by_age

WAITING = ("Pending", "Queued", "Preparing", "Starting")


class WaitingJob(BaseModel):
    """A job that does not train yet."""

    position: int
    """1 for the oldest. The scheduler decides: a smaller job may overtake."""
    id: str
    """Name of the job."""
    namespace: str
    """Namespace of the job."""
    phase: Phase
    """Where the job stands."""
    message: str
    """Why it waits."""
    gpus: int
    """GPUs that all its pods ask for."""
    creation_timestamp: str
    """When the job was created."""


class TrainingQueue(BaseModel):
    """What waits, beside what runs."""

    waiting: list[WaitingJob]
    """The jobs that wait, the oldest first."""
    running: int
    """Jobs that train now."""
    running_gpus: int
    """GPUs that these jobs ask for."""


def training_queue(jobs: list[Object]) -> dict[str, Any]:
    """The ``TrainingQueue`` of ``jobs``, as plain values."""
    waiting = [job for job in by_age(jobs) if phase(job) in WAITING]
    running = [job for job in jobs if phase(job) == "Running"]
    return {
        "waiting": [
            {
                "position": position,
                "id": job["metadata"]["name"],
                "namespace": job["metadata"]["namespace"],
                "phase": phase(job),
                "message": explanation(job),
                "gpus": gpus(job),
                "creation_timestamp": job["metadata"]["creationTimestamp"],
            }
            for position, job in enumerate(waiting, start=1)
        ],
        "running": len(running),
        "running_gpus": sum(gpus(job) for job in running),
    }


def gpus(job: Object) -> int:
    """The GPUs that all pods of a job ask for."""
    spec = (job.get("status") or {}).get("effectiveSpec") or job["spec"]
    return gpus_of(spec.get("resources")) * int(spec.get("numNodes") or 1)
