"""Starts the storage pod of a namespace, or finds the one that runs, and says in plain words why it does not start."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

from model_garden.builders.storage_job import StoragePlace, storage_job
from model_garden.cluster import EVENTS, JOBS, PODS, Cluster, ClusterError, Object
from model_garden.contract import names
from model_garden.services.errors import Unavailable

START_SECONDS = 180.0
"""Seconds that a pod may take to start: an image is pulled, a volume is made or moved to another node."""
LOOK_SECONDS = 0.2
_NO_CLAIM = re.compile(r'persistentvolumeclaim "?([\w.-]+)"? not found')
_NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
RIGHTS = (
    'data sets and models are read and written by a pod; ask for a role with the verbs "get", "create" and "delete" on '
    '"jobs" (batch), "list" on "pods", and "get" and "create" on "pods/exec"'
)


async def running_pod(cluster: Cluster, namespace: str, place: StoragePlace, tell: Callable[[str], None]) -> str:
    """The name of the storage pod, once it runs.

    Args:
        cluster: with the caller's credentials.
        namespace: whose claims are used.
        place: the claims and the image.
        tell: called with each new reason why the pod does not run yet.

    Raises:
        Unavailable: it cannot start.
        ClusterError: the API server refused.
    """
    job = storage_job(place, namespace)
    deadline, told = time.monotonic() + START_SECONDS, ""
    while True:
        pods = await _pods(cluster, namespace, job["metadata"]["name"])
        if running := next((pod for pod in pods if _runs(pod)), None):
            return str(running["metadata"]["name"])
        reason = await _why_not(cluster, job, place, [pod for pod in pods if not _ended(pod)])
        if time.monotonic() > deadline:
            raise Unavailable(f"the storage pod did not start within {START_SECONDS:.0f} seconds: {reason}")
        if reason != told:
            told = reason
            tell(reason)
        await asyncio.sleep(LOOK_SECONDS)


async def _pods(cluster: Cluster, namespace: str, job: str) -> list[Object]:
    found = await cluster.page(PODS, namespace, labels=f"{names.JOB_NAME}={job}")
    return found.items


async def _why_not(cluster: Cluster, job: Object, place: StoragePlace, pods: list[Object]) -> str:
    """Why the pod does not run; creates its Job if there is none.

    Raises:
        Unavailable: waiting does not help.
    """
    if pods:
        return why_not_running(pods[0], place)
    metadata = job["metadata"]
    try:
        await cluster.create(JOBS, job)
        return "the storage pod is created"
    except ClusterError as refused:
        if refused.reason != "AlreadyExists":
            raise
    try:
        existing = await cluster.get(JOBS, metadata["name"], metadata["namespace"])
        if _job_ended(existing):
            await cluster.delete(JOBS, metadata["name"], metadata["namespace"], uid=existing["metadata"]["uid"])
            return "the storage pod is created again"
    except ClusterError as gone:
        if gone.reason not in ("NotFound", "Conflict"):
            raise
        return "the storage pod is created again"
    if existing["spec"].get("suspend"):
        return why_suspended(existing)
    return why_no_pod(await _refusal(cluster, metadata))


def why_suspended(job: Object) -> str:
    """Why a suspended Job has no pod: Kueue suspends each Job that it manages until the quota has room."""
    name, queue = job["metadata"]["name"], (job["metadata"].get("labels") or {}).get(names.KUEUE_QUEUE)
    if queue:
        fix = "its ClusterQueue needs room for the CPU and the memory that the pod requests"
        return f"the storage pod waits for Kueue, queue {queue} (Job {name}); {fix}"
    fix = "if Kueue manages every Job here, create a LocalQueue with the name default; if not, resume or delete the Job"
    return f"Job {name} of the storage pod is suspended, and names no queue of Kueue; {fix}"


async def _refusal(cluster: Cluster, metadata: Object) -> str | None:
    """The last message about pods of the Job that could not be created; None where it cannot be read."""
    fields = f"involvedObject.kind=Job,involvedObject.name={metadata['name']},reason=FailedCreate"
    try:
        events = (await cluster.page(EVENTS, metadata["namespace"], fields=fields)).items
    except ClusterError:
        return None
    return str(events[-1].get("message")) if events else None


def why_no_pod(refusal: str | None) -> str:
    """Why a Job has no pod.

    Raises:
        Unavailable: the API server refuses the pod.
    """
    if refusal is None:
        return "the storage pod is created"
    raise Unavailable(f"the storage pod cannot be created: {refusal}")


def why_not_running(pod: Object, place: StoragePlace) -> str:
    """Why a pod that has not ended does not run.

    Raises:
        Unavailable: waiting does not help: the claim does not exist, or the image cannot be pulled.
    """
    status: dict[str, Any] = pod.get("status") or {}
    unscheduled = next((c for c in status.get("conditions") or () if _is_unscheduled(c)), None)
    if unscheduled:
        message = str(unscheduled.get("message") or "")
        if missing := _NO_CLAIM.search(message):
            raise Unavailable(
                f"the PersistentVolumeClaim {missing[1]!r} does not exist in namespace "
                f"{pod['metadata']['namespace']}; create it, or name another (--data-claim, --models-claim)"
            )
        return f"no node can take the storage pod: {message}"
    waiting: Object = next((s["state"]["waiting"] for s in status.get("containerStatuses") or () if _waits(s)), {})
    if waiting.get("reason") in _NO_IMAGE:
        raise Unavailable(
            f"the image {place.image} of the storage pod cannot be pulled ({waiting['reason']}: "
            f"{waiting.get('message') or 'no details'}); name another (--storage-image, or the environment variable "
            "MODEL_GARDEN_STORAGE_IMAGE)"
        )
    node = (pod.get("spec") or {}).get("nodeName")
    if waiting.get("message"):
        return f"the storage pod does not start on node {node}: {waiting['message']}"
    return f"the storage pod starts on node {node}" if node else "the storage pod waits for a node"


def _is_unscheduled(condition: Object) -> bool:
    return bool(condition["type"] == "PodScheduled" and condition["status"] == "False")


def _waits(container: Object) -> bool:
    return "waiting" in (container.get("state") or {})


def _runs(pod: Object) -> bool:
    started = [s for s in (pod.get("status") or {}).get("containerStatuses") or () if "running" in s.get("state", {})]
    return bool(started) and "deletionTimestamp" not in pod["metadata"]


def _ended(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed") or "deletionTimestamp" in pod["metadata"]


def _job_ended(job: Object) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or ()
    ended = any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)
    return ended or "deletionTimestamp" in job["metadata"]
