"""The trainer's log of a TrainingJob, across the pods of all its attempts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from model_garden.cluster import PODS, Cluster, ClusterError, Object, follow_log
from model_garden.contract.names import LABEL_JOB, TRAINER_CONTAINER, label_value
from model_garden.services.errors import NotFound
from model_garden.services.job_view import explanation, has_ended, phase


@dataclass(frozen=True)
class JobLog:
    """Lines of a log. ``from_status``: the pod is gone, and these are its last lines, which the status has."""

    lines: list[str]
    from_status: bool = False


async def read_log(cluster: Cluster, job: Object, tail: int | None = None, pod: str | None = None) -> JobLog:
    """The log of the job's latest pod, or its last ``tail`` lines.

    Args:
        cluster: the client.
        job: the job.
        tail: the most lines; None for all.
        pod: one of the job's pods instead of the latest.

    Raises:
        NotFound: the job has no log yet, or its log is gone.
        ClusterError: the API server refused.
    """
    namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
    pods = await cluster.list(PODS, namespace, labels=f"{LABEL_JOB}={label_value(name)}")
    found = [item for item in pods.items if pod in (None, item["metadata"]["name"])]
    if found:
        latest = max(found, key=lambda item: item["metadata"]["creationTimestamp"])["metadata"]["name"]
        try:
            text = await cluster.read_log(latest, namespace, container=TRAINER_CONTAINER, tail_lines=tail)
            return JobLog(text.splitlines())
        except ClusterError as refused:
            if refused.status not in (400, 404):  # not started yet, or deleted since it was listed
                raise
    status = job.get("status") or {}
    if pod not in (None, status.get("podName")):
        raise NotFound(f"{name} has no pod {pod}, or its log is gone with it")
    kept: list[str] = (status.get("failure") or {}).get("logTail") or []
    if not kept:
        why = f" ({explanation(job)})" if explanation(job) else ""
        when = "no log any more" if has_ended(job) else "no log yet"
        raise NotFound(f"{name} is {phase(job)} and has {when}{why}")
    return JobLog(kept if tail is None else kept[max(0, len(kept) - tail) :], from_status=True)


async def follow_job_log(cluster: Cluster, states: AsyncIterator[Object]) -> AsyncIterator[str | Object]:
    """Each line of the log of each pod as it is written, and after each pod's log the new state of the job.

    The last item is the job after it has ended.

    Args:
        cluster: the client.
        states: the current state of the job and each later one, until it has ended.

    Raises:
        NotFound: the job was deleted.
        ClusterError: the API server refused.
    """
    followed: set[str] = set()
    async for state in states:
        pod = (state.get("status") or {}).get("podName")
        if pod and pod not in followed:
            followed.add(pod)
            async for line in follow_log(cluster, pod, state["metadata"]["namespace"], container=TRAINER_CONTAINER):
                yield line
        yield state
