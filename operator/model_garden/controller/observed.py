"""PURE: a TrainingJob's Job, Pods and Events as facts. No other module reads Kubernetes' shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from model_garden.contract import names
from model_garden.contract.names import SUSPENDED_BY_SPEC
from model_garden.contract.progress import Outcome, parse_outcome
from model_garden.contract.reasons import NO_RETRY, WORKER_LOST
from model_garden.contract.status import EndReason
from model_garden.controller import pod_reasons
from model_garden.controller.kueue import Workload, derive_workload
from model_garden.controller.pod_reasons import PendingReason

Object = dict[str, Any]

GONE = "model-garden/gone"
"""Set on the last state seen of a pod that no longer exists."""


@dataclass(frozen=True)
class End:
    """How a pod ended. ``message`` is the trainer's, else the operator's."""

    reason: EndReason
    exit_code: int | None
    message: str | None
    outcome: Outcome | None
    time: str | None
    killed_for: Literal["OutOfMemory", "Evicted", "Preempted"] | None = None


@dataclass(frozen=True)
class PodFacts:
    """One pod of the training Job: started or not, ended or not."""

    name: str
    uid: str
    node: str | None
    created: str
    scheduled: str | None
    started: str | None
    end: End | None
    waiting: PendingReason | None
    asked_to_stop: bool
    delete_by: str | None = None
    """The deadline of its deletion, once it is being deleted."""
    delete_reason: str | None = None
    """Why it is being deleted, where Kubernetes gives a reason."""
    node_lost: str | None = None
    """Since when its node does not answer, as Kubernetes has noticed."""
    gone: bool = False
    """It no longer exists: this is its last state that was seen."""
    holding: tuple[str, ...] = ()
    """The containers that have not ended though its trainer has, so that the pod cannot end."""
    index: int = 0
    """Its index among the pods of several nodes. Pod 0 leads: it reports the progress and the outcome."""

    @property
    def is_an_attempt(self) -> bool:
        """Whether the status lists it: the leader, and of the others one that failed first."""
        own = self.end is not None and self.end.reason in ("Error", "Evicted", "Preempted")
        return self.index == 0 or (own and self.end is not None and self.end.exit_code != WORKER_LOST)


@dataclass(frozen=True)
class JobFacts:
    """The training Job. ``failed`` is the reason and message of its Failed condition."""

    name: str
    uid: str
    created: str
    owned: bool
    other_owner: str | None
    deleting: bool
    suspended: bool
    suspended_by_spec: bool
    complete: bool
    failed: tuple[str, str] | None
    end_time: str | None
    ttl: int | None
    start_problem: PendingReason | None
    queue: str | None
    """Its LocalQueue of Kueue: the TrainingJob's, or the namespace's default one."""

    @property
    def finished(self) -> bool:
        """Whether the Job has ended, either way."""
        return self.complete or self.failed is not None


@dataclass(frozen=True)
class Facts:
    """The Job, None if there is none, its pods, the oldest first, and its Workload, if Kueue manages it."""

    job: JobFacts | None
    pods: tuple[PodFacts, ...] = ()
    workload: Workload | None = None
    unserved: PendingReason | None = None
    """Why the cluster cannot serve the job's claims of devices."""
    left_behind: PodFacts | None = None
    """A pod that has not ended, of an earlier Job of that name: a new Job's pod would write beside it."""

    @property
    def managed_by_kueue(self) -> bool:
        """Whether Kueue alone suspends and resumes the Job."""
        return self.workload is not None or (self.job is not None and self.job.queue is not None)

    @property
    def current(self) -> PodFacts | None:
        """The newest leading pod that has not ended."""
        return next((pod for pod in reversed(self.pods) if pod.index == 0 and pod.end is None), None)

    @property
    def pending_pod(self) -> PodFacts | None:
        """The newest pod that has not started; those of other nodes wait for it."""
        return next((pod for pod in reversed(self.pods) if pod.end is None and not pod.started), None)

    @property
    def stopping(self) -> PodFacts | None:
        """The pod that is to be deleted and has not ended; of several the one whose time runs out first."""
        pods = (*self.pods, self.left_behind) if self.left_behind else self.pods
        stopping = [pod for pod in pods if pod.node and pod.end is None and pod.delete_by]
        return min(stopping, key=lambda pod: pod.delete_by or "", default=None)

    @property
    def on_lost_node(self) -> PodFacts | None:
        """The oldest pod that has not ended and whose node does not answer."""
        return next((pod for pod in self.pods if pod.node_lost), None)

    @property
    def last_ended(self) -> PodFacts | None:
        """The newest leading pod that has ended."""
        return next((pod for pod in reversed(self.pods) if pod.index == 0 and pod.end is not None), None)

    @property
    def failed_pod(self) -> PodFacts | None:
        """The ended pod that shows why a Job failed: of several the one whose error no retry can help, else the newest
        that did not end because of another."""
        ended = [pod for pod in reversed(self.pods) if pod.end is not None and pod.is_an_attempt]
        for blamed in (lambda code: code in NO_RETRY, lambda code: code != WORKER_LOST):
            for pod in ended:
                if pod.end is not None and blamed(pod.end.exit_code):
                    return pod
        return self.last_ended


def derive_facts(
    owner: Object,
    job: Object | None,
    pods: Sequence[Object],
    events: Sequence[Object] = (),
    workload: Object | None = None,
) -> Facts:
    """The facts of a TrainingJob.

    Args:
        owner: the TrainingJob's metadata; its uid marks its own Job and pods.
        job: the Job of its name.
        pods: the pods of Jobs of that name: of this Job, and of those before it that were deleted.
        events: Events about the Job and its pods; only needed for why nothing starts. Those of a Job that are older
            than its newest pod are outdated.
        workload: Kueue's Workload of the Job of that name.
    """
    newest = max(map(_created, pods), default="")
    facts = _job_facts(owner["uid"], job, [e for e in events if _time(e) > newest]) if job else None
    foreign = facts.uid if facts and not facts.owned else None
    mine = [pod for pod in pods if _created(pod) >= owner["creationTimestamp"] and foreign not in _owners(pod)]
    mine.sort(key=lambda pod: (_created(pod), pod["metadata"]["name"]))
    managed = workload is not None and facts is not None and facts.uid in _owners(workload)
    queued = derive_workload(workload) if workload and managed else None
    of_earlier_jobs = [pod for pod in pods if not (facts and facts.owned and facts.uid in _owners(pod))]
    alive = (one for one in (_one_pod(pod, events) for pod in of_earlier_jobs) if one.end is None)
    left_behind = min(alive, key=lambda pod: pod.created, default=None)
    return Facts(facts, tuple(_one_pod(pod, events) for pod in mine), queued, left_behind=left_behind)


def _created(item: Object) -> str:
    return str(item["metadata"]["creationTimestamp"])


def _job_facts(uid: str, job: Object, events: Sequence[Object]) -> JobFacts:
    metadata, status = job["metadata"], job.get("status") or {}
    owner: Object = next((owner for owner in metadata.get("ownerReferences") or () if owner.get("controller")), {})
    failed = condition(job, "Failed")
    complete = condition(job, "Complete")
    end = failed or complete
    refused = _latest(events, metadata["uid"], "FailedCreate")
    return JobFacts(
        name=metadata["name"],
        uid=metadata["uid"],
        created=metadata["creationTimestamp"],
        owned=owner.get("uid") == uid,
        other_owner=f"{owner['kind']} {owner['name']}" if owner else None,
        deleting="deletionTimestamp" in metadata,
        suspended=bool(job["spec"].get("suspend")),
        suspended_by_spec=SUSPENDED_BY_SPEC in (metadata.get("annotations") or {}),
        complete=complete is not None,
        failed=(failed.get("reason", ""), failed.get("message", "")) if failed else None,
        end_time=status.get("completionTime") or (end or {}).get("lastTransitionTime"),
        ttl=job["spec"].get("ttlSecondsAfterFinished"),
        start_problem=pod_reasons.why_no_pod(refused.get("message") if refused else None),
        queue=(metadata.get("labels") or {}).get(names.KUEUE_QUEUE),
    )


def _one_pod(pod: Object, events: Sequence[Object]) -> PodFacts:
    metadata, status = pod["metadata"], pod.get("status") or {}
    state = _trainer_state(status)
    end = _end(pod, state)
    started = (state.get("running") or state.get("terminated") or {}).get("startedAt")
    waiting = None
    if end is None and not started:
        mounts = _mount_problem(events, metadata["uid"])
        waiting = pod_reasons.why_not_running(condition(pod, "PodScheduled", "False"), state.get("waiting"), mounts)
    return PodFacts(
        name=metadata["name"],
        uid=metadata["uid"],
        node=pod["spec"].get("nodeName"),
        created=metadata["creationTimestamp"],
        scheduled=(condition(pod, "PodScheduled") or {}).get("lastTransitionTime"),
        started=started,
        end=end,
        waiting=waiting,
        asked_to_stop=names.ANNOTATION_STOP in (metadata.get("annotations") or {}),
        delete_by=metadata.get("deletionTimestamp"),
        delete_reason=(condition(pod, "DisruptionTarget") or {}).get("message"),
        node_lost=_node_lost(pod) if end is None else None,
        gone=GONE in pod,
        holding=_holding(pod) if end else (),
        index=int((metadata.get("annotations") or {}).get(names.COMPLETION_INDEX) or 0),
    )


def _holding(pod: Object) -> tuple[str, ...]:
    """The containers that have not ended, of a pod whose trainer has. A native sidecar ends by itself then."""
    status = pod.get("status") or {}
    if GONE in pod or status.get("phase") in ("Succeeded", "Failed"):
        return ()
    return tuple(c["name"] for c in status.get("containerStatuses") or () if "terminated" not in (c.get("state") or {}))


def _node_lost(pod: Object) -> str | None:
    """Since when the node of a pod does not answer; None if it does.

    The node controller then writes ``Ready=False`` to each of the node's pods, and leaves ``ContainersReady``, which
    only the node writes, as it is. A node writes both alike.
    Source: ``MarkPodsNotReady``, https://github.com/kubernetes/kubernetes/tree/master/pkg/controller/util/node
    """
    not_ready = condition(pod, "Ready", "False")
    return str(not_ready["lastTransitionTime"]) if not_ready and condition(pod, "ContainersReady") else None


def _end(pod: Object, state: Object) -> End | None:
    status = pod.get("status") or {}
    terminated: Object = state.get("terminated") or {}
    if not terminated and status.get("phase") not in ("Succeeded", "Failed") and not pod.get(GONE):
        return None
    outcome = parse_outcome(terminated.get("message"))
    exit_code = terminated.get("exitCode")
    disruption = condition(pod, "DisruptionTarget") or {}
    evicted = status.get("reason") if status.get("reason") in ("Evicted", "NodeLost", "Preempting") else None
    reason: EndReason = "Error"
    message = outcome.message if outcome else None
    killed_for: Literal["OutOfMemory", "Evicted", "Preempted"] | None = None
    if outcome and outcome.result == "Succeeded" and exit_code == 0:
        reason = "Stopped" if outcome.stopped_early else "Completed"
    elif status.get("phase") == "Succeeded" or exit_code == 0:
        reason = "Completed"
    elif disruption.get("reason") == "PreemptionByScheduler":
        reason, killed_for = "Preempted", "Preempted"
        message = pod_reasons.preempted(disruption.get("message"))
    elif disruption or evicted:
        reason, killed_for = "Evicted", "Evicted"
        message = pod_reasons.evicted(disruption.get("message") or status.get("message"), pod["spec"].get("nodeName"))
    elif terminated.get("reason") == "OOMKilled":
        killed_for, message = "OutOfMemory", pod_reasons.out_of_memory(_memory_limit(pod))
    elif outcome and outcome.result == "Stopped":
        reason = "Stopped"
    elif outcome is None and "deletionTimestamp" in pod["metadata"]:
        reason, message = "Stopped", "the pod was deleted"
    elif outcome is None and terminated:
        message = pod_reasons.died(exit_code, terminated.get("reason"), terminated.get("message"))
    elif outcome is None:
        message = status.get("message") or "the pod is gone and its end was not seen"
    return End(
        reason=reason,
        exit_code=exit_code,
        message=message,
        outcome=outcome,
        time=terminated.get("finishedAt"),
        killed_for=killed_for,
    )


def _trainer_state(status: Object) -> Object:
    for container in status.get("containerStatuses") or ():
        if container["name"] == names.TRAINER_CONTAINER:
            state: Object = container.get("state") or {}
            return state
    return {}


def _memory_limit(pod: Object) -> str | None:
    for container in pod["spec"].get("containers") or ():
        if container["name"] == names.TRAINER_CONTAINER:
            limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
            return str(limit) if limit else None
    return None


def condition(item: Object, kind: str, wanted: str = "True") -> Object | None:
    """An object's condition of a type, if it has the wanted status."""
    for found in (item.get("status") or {}).get("conditions") or ():
        if found["type"] == kind and found["status"] == wanted:
            result: Object = found
            return result
    return None


def _owners(item: Object) -> list[str]:
    return [owner["uid"] for owner in item["metadata"].get("ownerReferences") or ()]


def _latest(events: Sequence[Object], uid: str, *reasons: str) -> Object | None:
    """The latest Event about an object, for one of the reasons."""
    found = [e for e in events if e["involvedObject"].get("uid") == uid and e.get("reason") in reasons]
    return max(found, key=_time, default=None)


def _time(event: Object) -> str:
    """When an Event came for the last time, to the second."""
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])[:19]


def _mount_problem(events: Sequence[Object], uid: str) -> str | None:
    """The message of the latest Event about a volume or a claim of a device, unless the node pulls the image since.

    Events last longer than the problem.
    """
    problem = _latest(events, uid, "FailedMount", "FailedAttachVolume", "FailedResourceClaimCreation")
    pulled = _latest(events, uid, "Pulling", "Pulled", "Created")
    if problem is None or (pulled and _time(pulled) >= _time(problem)):
        return None
    return str(problem.get("message"))


def trim_job(job: Object) -> Object:
    """What is kept of a Job in memory: not its pod template, nor who managed which field."""
    metadata, spec, status = job["metadata"], job["spec"], job.get("status") or {}
    return {
        "metadata": _trim_metadata(metadata),
        "spec": {key: spec[key] for key in ("suspend", "ttlSecondsAfterFinished") if key in spec},
        "status": {key: status[key] for key in ("conditions", "active", "completionTime") if key in status},
    }


def trim_pod(pod: Object) -> Object:
    """What is kept of a Pod in memory."""
    spec, status = pod["spec"], pod.get("status") or {}
    containers = [
        {"name": c["name"], "resources": c.get("resources") or {}}
        for c in spec.get("containers") or ()
        if c["name"] == names.TRAINER_CONTAINER
    ]
    statuses = [
        {"name": c["name"], "state": c.get("state") or {}}
        for c in status.get("containerStatuses") or ()
        if c["name"] == names.TRAINER_CONTAINER or "terminated" not in (c.get("state") or {})
    ]
    kept = {key: status[key] for key in ("phase", "reason", "message", "conditions") if key in status}
    return {
        "metadata": _trim_metadata(pod["metadata"]),
        "spec": {"nodeName": spec.get("nodeName"), "containers": containers},
        "status": kept | {"containerStatuses": statuses},
    }


def _trim_metadata(metadata: Object) -> Object:
    kept = (
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "labels",
        "annotations",
        "ownerReferences",
    )
    return {key: metadata[key] for key in kept if key in metadata}
