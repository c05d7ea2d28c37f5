"""PURE: the Workload that Kueue keeps for a Job, as facts, and what it says about a job that waits.

Conditions and reasons: https://github.com/kubernetes-sigs/kueue/blob/v0.17.0/apis/kueue/v1beta2/workload_types.go
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from model_garden.contract.names import SUSPENDED_BY_SPEC

Object = dict[str, Any]

DEACTIVATED = "Deactivated"
"""The reason of an eviction by ``spec.active: false``; Kueue appends why where it was Kueue that set the field."""


@dataclass(frozen=True)
class Told:
    """A condition's reason, message and time, as Kueue wrote them."""

    reason: str
    message: str
    time: str


@dataclass(frozen=True)
class Workload:
    """Kueue's Workload of one Job.

    Attributes:
        name: its name.
        queue: its LocalQueue, empty for a Job that names none where Kueue manages every Job.
        cluster_queue: the ClusterQueue that reserved the quota, None without a reservation.
        active: ``spec.active``; Kueue admits no other Workload, and stops the Job of one that was admitted.
        suspended_by_spec: whether ``spec.suspend`` of the TrainingJob set ``spec.active`` to false.
        admitted: since when the Job may run, None if it may not.
        evicted: why Kueue stopped the Job or did not let it start; None once it has a quota again.
        no_quota: why no quota is reserved.
        checks: the admission checks that are not ready yet, each with its message.
    """

    name: str
    queue: str
    cluster_queue: str | None
    active: bool
    suspended_by_spec: bool
    admitted: str | None
    evicted: Told | None
    no_quota: Told | None
    checks: tuple[str, ...] = ()

    @property
    def waits(self) -> bool:
        """Whether it stands in line."""
        return self.active and self.queue != "" and self.cluster_queue is None


def derive_workload(workload: Object) -> Workload:
    """The facts of a Workload."""
    spec, status = workload.get("spec") or {}, workload.get("status") or {}
    admitted = _told(status, "Admitted", "True")
    return Workload(
        name=workload["metadata"]["name"],
        queue=spec.get("queueName") or "",
        cluster_queue=(status.get("admission") or {}).get("clusterQueue"),
        active=spec.get("active", True),
        suspended_by_spec=SUSPENDED_BY_SPEC in (workload["metadata"].get("annotations") or {}),
        admitted=admitted.time if admitted else None,
        evicted=_told(status, "Evicted", "True"),
        no_quota=_told(status, "QuotaReserved", "False"),
        checks=tuple(
            f"{check['name']}: {check.get('message') or check['state']}"
            for check in status.get("admissionChecks") or ()
            if check["state"] != "Ready"
        ),
    )


def _told(status: Object, kind: str, wanted: str) -> Told | None:
    for found in status.get("conditions") or ():
        if found["type"] == kind and found["status"] == wanted:
            return Told(found["reason"], found.get("message") or "", found["lastTransitionTime"])
    return None


def why_queued(workload: Workload | None, *, served: bool) -> Told:
    """Why the Job of an active Workload is suspended; reason and message are Kueue's own where Kueue gave some.

    Args:
        workload: None while Kueue has made none.
        served: whether the API server has Workloads at all.
    """
    if workload is None and not served:
        fix = "install Kueue 0.15 or newer, or create the job without the label kueue.x-k8s.io/queue-name"
        return Told("KueueNotInstalled", f"the job names a queue of Kueue, but the cluster has no Kueue; {fix}", "")
    if workload is None:
        why = (
            "Kueue has made no Workload of the Job yet; if this lasts, check that Kueue runs and manages batch/job here"
        )
        return Told("WaitingForWorkload", why, "")
    if not workload.queue:
        why = "Kueue manages every Job here, and this Job names no queue; create a LocalQueue with the name default"
        return Told("NoQueue", f"{why}, or the job with the label kueue.x-k8s.io/queue-name", "")
    evicted = workload.evicted
    if evicted and not evicted.reason.startswith(DEACTIVATED):
        now = f"; now: {again}" if (again := _news(workload.no_quota, evicted)) else ""
        return Told(evicted.reason, f"Kueue stopped the job: {evicted.message}{now}", evicted.time)
    if workload.no_quota:
        return workload.no_quota
    if workload.checks:
        why = f"the quota is reserved, and admission checks are pending: {'; '.join(workload.checks)}"
        return Told("WaitingForAdmissionChecks", why, "")
    if workload.admitted:
        return Told("Admitted", "Kueue admitted the job; its Job is about to start", workload.admitted)
    return Told("WaitingForQuota", "the job waits for Kueue to reserve its quota", "")


def _news(no_quota: Told | None, evicted: Told) -> str:
    """Why Kueue did not admit the job again after it stopped it; until it has tried, it repeats the message."""
    return no_quota.message if no_quota and no_quota.message != evicted.message else ""


def why_deactivated(workload: Workload, namespace: str) -> Told:
    """Why a Workload is not active that the operator did not deactivate, and how to activate it."""
    evicted = workload.evicted
    by_kueue = evicted and evicted.reason.startswith(DEACTIVATED) and evicted.reason != DEACTIVATED
    who = (
        f"Kueue deactivated the job ({evicted.message})"
        if evicted and by_kueue
        else "the job's Workload was deactivated"
    )
    patch = """-p '{"spec":{"active":true}}'"""
    fix = f"to queue it again: kubectl patch workload {workload.name} -n {namespace} --type=merge {patch}"
    reason = evicted.reason if evicted and by_kueue else DEACTIVATED
    return Told(reason, f"{who}; {fix}", evicted.time if evicted else "")


def trim_workload(workload: Object) -> Object:
    """What is kept of a Workload in memory: not its pod templates."""
    spec, status = workload.get("spec") or {}, workload.get("status") or {}
    metadata = workload["metadata"]
    named = ("name", "namespace", "uid", "resourceVersion", "annotations", "ownerReferences")
    trimmed: Object = {
        "metadata": {key: metadata[key] for key in named if key in metadata},
        "spec": {key: spec[key] for key in ("active", "queueName") if key in spec},
        "status": {key: status[key] for key in ("conditions", "admissionChecks") if key in status},
    }
    if admission := status.get("admission"):
        trimmed["status"]["admission"] = {"clusterQueue": admission.get("clusterQueue")}
    return trimmed
