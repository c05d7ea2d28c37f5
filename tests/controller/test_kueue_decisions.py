"""What Kueue's Workload says of a job: the phase, the reason and the message. The conditions are Kueue 0.17's."""

from dataclasses import replace
from typing import Any

import pytest

from model_garden.contract.progress import Outcome
from model_garden.controller.kueue import derive_workload, trim_workload
from model_garden.controller.observed import derive_facts
from model_garden.controller.status import next_status
from model_garden.controller.trainer_events import Training
from model_garden.controller.verdict import Observation, Verdict, judge
from tests.controller import builders as b

Object = dict[str, Any]
LABELS = {"kueue.x-k8s.io/queue-name": "research"}
NO_ROOM = (
    "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor a, 1 more needed"
)
PREEMPTED = "Preempted to accommodate a workload (UID: 1, JobUID: 2) due to prioritization in the ClusterQueue"


def said(kind: str, status: str, reason: str, message: str = "", seconds: float = 10) -> Object:
    told = {"type": kind, "status": status, "reason": reason, "message": message}
    return told | {"lastTransitionTime": b.time(seconds)}


WAITS = said("QuotaReserved", "False", "Pending", NO_ROOM)
EVICTED = said("Evicted", "True", "Preempted", PREEMPTED)
NOWHERE = said("QuotaReserved", "False", "Inadmissible", "LocalQueue  doesn't exist")
RESERVED = said("QuotaReserved", "True", "QuotaReserved", "Quota reserved in ClusterQueue gpus")
ADMITTED = [RESERVED, said("Admitted", "True", "Admitted")]
CHECK = {"name": "budget", "state": "Pending", "message": "waits for approval"}


def workload(
    *conditions: Object,
    owner: str = "job-uid",
    queue: str = "research",
    active: bool = True,
    ours: bool = False,
    **status: Any,
) -> Object:
    owners = [{"kind": "Job", "name": "receipts-train", "uid": owner}]
    metadata: Object = {"name": "job-receipts", "namespace": "default", "uid": "w", "ownerReferences": owners}
    if ours:
        metadata["annotations"] = {"model-garden.dev/suspended-by-spec": "true"}
    if RESERVED in conditions:
        status["admission"] = {"clusterQueue": "gpus", "podSetAssignments": [{}]}
    spec = {"queueName": queue, "podSets": [{}], "active": active}
    return {"metadata": metadata, "spec": spec, "status": {"conditions": list(conditions), **status}}


def observe(
    found: Object | None, *pods: Object, running: bool = False, seconds: float = 60, **more: Any
) -> Observation:
    labels = more.pop("labels", LABELS)
    spec, trimmed = more.pop("spec", {}), trim_workload(found) if found else None
    job = b.job(suspend=not running, labels=labels)
    facts = derive_facts(b.resource(labels=labels)["metadata"], job, pods, (), trimmed)
    plan = b.plan(labels=labels, **spec)
    more = {"kueue_served": True} | more
    return Observation(plan, facts, Training(stage="training"), b.NEW, b.at(seconds), **more)


def verdict(found: Object | None, *pods: Object, **more: Any) -> Verdict:
    return judge(observe(found, *pods, **more), missing_seconds=300)


OFF = workload(said("Evicted", "True", "Deactivated", "The workload is deactivated"), active=False)
GIVEN_UP = "The workload is deactivated due to exceeding the maximum number of re-queuing retries"
LIMIT = "DeactivatedDueToRequeuingLimitExceeded"
SUSPEND = {"suspend": True}
NO_GPU = b.unscheduled("1 Insufficient nvidia.com/gpu")


@pytest.mark.parametrize(
    ("found", "phase", "reason", "words"),
    [
        (verdict(None, kueue_served=False), "Queued", "KueueNotInstalled", "install Kueue"),
        (verdict(None), "Queued", "WaitingForWorkload", "batch/job"),
        (verdict(workload(owner="another")), "Queued", "WaitingForWorkload", "no Workload"),
        (verdict(workload()), "Queued", "WaitingForQuota", "reserve its quota"),
        (verdict(workload(NOWHERE, queue=""), labels={}), "Queued", "NoQueue", "LocalQueue with the name default"),
        (verdict(workload(WAITS)), "Queued", "Pending", NO_ROOM),
        (verdict(workload(WAITS), position=3), "Queued", "Pending", f"place 3 in line: {NO_ROOM}"),
        (verdict(workload(WAITS), labels={}), "Queued", "Pending", NO_ROOM),
        (verdict(workload(WAITS, EVICTED)), "Queued", "Preempted", f"stopped the job: {PREEMPTED}; now: {NO_ROOM}"),
        (verdict(workload(EVICTED, WAITS | {"message": PREEMPTED})), "Queued", "Preempted", f": {PREEMPTED}"),
        (verdict(workload(RESERVED, admissionChecks=[CHECK])), "Queued", "WaitingForAdmissionChecks", "budget: waits"),
        (verdict(workload(*ADMITTED)), "Queued", "Admitted", "about to start"),
        (verdict(OFF), "Suspended", "Deactivated", "kubectl patch workload job-receipts -n default"),
        (verdict(OFF, spec=SUSPEND), "Suspended", "Suspended", "model-garden resume"),
        (verdict(workload(WAITS, active=False, ours=True), spec=SUSPEND), "Suspended", "Suspended", "resume"),
        (verdict(workload(said("Evicted", "True", LIMIT, GIVEN_UP), active=False)), "Suspended", LIMIT, "retries"),
        (verdict(OFF | {"spec": {"active": True, "queueName": "q"}}), "Queued", "WaitingForQuota", "reserve"),
        (verdict(workload(*ADMITTED), b.running(), running=True), "Running", "Running", "training"),
        (verdict(workload(EVICTED), b.running(), running=True), "Running", "Running", "training"),
        (verdict(workload(*ADMITTED), NO_GPU, running=True, seconds=309), "Pending", "NoFreeGPU", "GPU"),
        (verdict(workload(*ADMITTED), running=True, seconds=311), "Starting", "AdmittedNotRunning", "gpus"),
        (verdict(workload(*ADMITTED), NO_GPU, running=True, seconds=311), "Pending", "AdmittedNotRunning", "GPU"),
        (verdict(workload(*ADMITTED), b.ended(1), running=True, seconds=400), "Starting", "AdmittedNotRunning", "new"),
    ],
)  # fmt: skip
def test_the_verdict(found: Verdict, phase: str, reason: str, words: str) -> None:
    assert (found.phase, found.reason) == (phase, reason)
    assert words in found.message


@pytest.mark.parametrize(
    ("found", "waits"),
    [
        (workload(WAITS), True),
        (workload(NOWHERE, queue=""), False),
        (workload(*ADMITTED), False),
        (workload(WAITS, active=False), False),
    ],
)
def test_only_a_workload_of_a_queue_without_a_quota_stands_in_line(found: Object, waits: bool) -> None:
    assert derive_workload(found).waits is waits


def test_a_pod_that_started_since_the_admission_is_not_missing() -> None:
    died = b.ended(1)  # started at second 5
    early = [RESERVED, said("Admitted", "True", "Admitted", seconds=2)]
    assert verdict(workload(*early), died, running=True, seconds=400).reason == "Retrying"


def test_the_status_has_the_queue_and_the_place_only_while_the_job_waits() -> None:
    waiting = observe(workload(WAITS), position=2)
    queue = next_status(waiting, judge(waiting, 300)).queue
    assert queue and queue.to_dict() == {"name": "research", "workload": "job-receipts", "position": 2}
    admitted = observe(workload(*ADMITTED), running=True, position=2)
    queue = next_status(admitted, judge(admitted, 300)).queue
    assert queue and (queue.cluster_queue, queue.position, queue.admission_time) == ("gpus", None, b.time(10))


def test_the_attempt_of_a_job_that_kueue_stopped_keeps_kueues_reason() -> None:
    pod = b.ended(143, Outcome(result="Stopped", exit_code=143))
    stopped = observe(workload(WAITS, EVICTED), pod)
    first = next_status(stopped, judge(stopped, 300))
    again = replace(observe(workload(*ADMITTED), pod, running=True), previous=first)
    for status in (first, next_status(again, judge(again, 300))):
        [attempt] = status.attempts or ()
        assert (attempt.reason, attempt.message) == ("Preempted", f"Kueue stopped the job: {PREEMPTED}")
    paused = observe(OFF, pod)
    [attempt] = next_status(paused, judge(paused, 300)).attempts or ()
    assert attempt.reason == "Stopped"


def test_what_is_kept_in_memory_says_the_same_as_the_whole_workload() -> None:
    whole = workload(*ADMITTED, EVICTED, ours=True, admissionChecks=[CHECK])
    trimmed = trim_workload(whole)
    assert derive_workload(trimmed) == derive_workload(whole)
    assert "podSets" not in trimmed["spec"]
