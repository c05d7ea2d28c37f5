"""From facts to the verdict: the phase and the reason that people read."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from model_garden.builders.plan import Step
from model_garden.controller.observed import derive_facts, trim_pod
from model_garden.controller.status import next_status
from model_garden.controller.trainer_events import Training
from model_garden.controller.verdict import Now, Observation, Verdict, awaiting_job_conclusion, awaiting_pods, judge
from tests.controller import builders as b
from tests.controller.builders import BAD, DONE, NEW, Object


def verdict(
    job: Object | None,
    *pods: Object,
    seconds: float = 10,
    stalled: float | None = None,
    events: tuple[Object, ...] = (),
    cancelled: bool = False,
    step: Step = "train",
    **spec: Any,
) -> Verdict:
    """The verdict at a time, on a job that was the same at another one."""
    facts = derive_facts(b.resource()["metadata"], job, pods, events)
    plan = replace(b.plan(**spec), step=step)
    if cancelled:
        plan = replace(plan, annotations={"model-garden.dev/cancel": "true"})
    before = NEW
    for second in (seconds,) if stalled is None else (stalled, seconds):
        seen = Observation(plan, facts, Training(stage="training"), before, b.at(second))
        found = judge(seen, missing_seconds=300)
        before = next_status(seen, found)
    return found


QUEUE = {"labels": {"kueue.x-k8s.io/queue-name": "gpus"}}
OURS = {"annotations": {"model-garden.dev/suspended-by-spec": "true"}}
NO_IMAGE = b.waiting("ErrImagePull", "docker.io/library/x:1: not found")
NO_CLAIM = 'persistentvolumeclaim "rows" not found'


@pytest.mark.parametrize(
    ("found", "phase", "reason", "stalled"),
    [
        (verdict(None), "Pending", "CreatingJob", False),
        (verdict(b.job()), "Starting", "Starting", False),
        (verdict(b.job(), b.waiting("ContainerCreating")), "Starting", "Starting", False),
        (verdict(b.job(), b.unscheduled("1 Insufficient nvidia.com/gpu")), "Pending", "NoFreeGPU", False),
        (verdict(b.job(), b.unscheduled(NO_CLAIM)), "Pending", "ClaimNotFound", True),
        (verdict(b.job(), b.unscheduled(NO_CLAIM), stalled=0, seconds=301), "Failed", "ClaimNotFound", True),
        (verdict(b.job(), b.unscheduled(NO_CLAIM), seconds=999), "Pending", "ClaimNotFound", True),
        (verdict(b.job(), b.waiting("ImagePullBackOff")), "Starting", "ImageNotPullable", True),
        (verdict(b.job(), b.waiting("ImagePullBackOff"), stalled=0, seconds=999), "Starting", "ImageNotPullable", True),
        (verdict(b.job(), b.waiting("ImagePullBackOff"), stalled=0, seconds=1801), "Failed", "ImageNotPullable", True),
        (verdict(b.job(), NO_IMAGE, stalled=0, seconds=301), "Failed", "ImageNotPullable", True),
        (verdict(None, suspend=True, **QUEUE), "Suspended", "Suspended", False),
        (verdict(b.job(), b.running()), "Running", "Running", False),
        (verdict(b.job(), b.ended(1)), "Starting", "Retrying", False),
        (verdict(b.job(), b.ended(1), b.running("second", 90)), "Running", "Running", False),
        (verdict(b.job(suspend=True)), "Suspended", "SuspendedByOthers", False),
        (verdict(b.job(suspend=True, **OURS), suspend=True), "Suspended", "Suspended", False),
        (verdict(b.job(suspend=True, **QUEUE), **QUEUE), "Queued", "KueueNotInstalled", True),
        (verdict(b.job(suspend=True, **QUEUE), suspend=True, **QUEUE), "Suspended", "Suspended", False),
        (verdict(b.job(deletionTimestamp=b.time())), "Pending", "JobDeleted", False),
        (verdict(b.job(owner="")), "Pending", "JobNameTaken", True),
        (verdict(b.job(owner="old-uid")), "Pending", "PreviousJobEnding", False),
        (verdict(b.job("Complete"), b.ended(0, DONE)), "Succeeded", "Succeeded", False),
        (verdict(b.job("Failed", reason="PodFailurePolicy"), b.ended(3, BAD)), "Failed", "InvalidDataset", True),
    ],
)
def test_the_verdict(found: Verdict, phase: str, reason: str, stalled: bool) -> None:
    assert (found.phase, found.reason, found.stalled) == (phase, reason, stalled)


def deleted(pod: Object, delete_by: float) -> Object:
    """The pod, to be deleted by a time, as the taint manager does when a node no longer answers."""
    by_taint = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "a taint"}
    return pod | {
        "metadata": pod["metadata"] | {"deletionTimestamp": b.time(delete_by)},
        "status": pod["status"] | {"conditions": [by_taint]},
    }


@pytest.mark.parametrize(
    ("seconds", "phase", "reason"), [(10, "Running", "PodDeleted"), (150, "Pending", "NodeNotResponding")]
)
def test_the_message_about_a_deleted_pod_names_its_node_and_the_fix(seconds: float, phase: str, reason: str) -> None:
    """With podReplacementPolicy: Failed no other pod starts while a lost node cannot say that this one has ended."""
    found = verdict(b.job(), deleted(b.running(), delete_by=130), seconds=seconds)
    assert (found.phase, found.reason, found.stalled) == (phase, reason, phase == "Pending")
    for words in ("node node-1", "(a taint)", "repair the node", "delete the Node object", "force-delete it"):
        assert words in found.message


def on_lost_node(pod: Object) -> Object:
    """The pod as the node controller marks it when the node's lease has expired."""
    ready = [
        {"type": "ContainersReady", "status": "True", "lastTransitionTime": b.time(5)},
        {"type": "Ready", "status": "False", "lastTransitionTime": b.time(60)},
    ]
    return pod | {"status": pod["status"] | {"conditions": ready}}


def test_a_running_pod_whose_node_does_not_answer_is_not_reported_as_training() -> None:
    found = verdict(b.job(), on_lost_node(b.running()), seconds=61)
    assert (found.phase, found.reason, found.stalled) == ("Running", "NodeNotReady", False)
    for words in ("node node-1", f"since {b.time(60)}", "pod receipts-train-1", "may still train", "force-delete it"):
        assert words in found.message


def test_of_several_pods_the_one_on_a_lost_node_is_named() -> None:
    found = verdict(b.job(), b.running("receipts-train-1"), on_lost_node(b.running("receipts-train-2")))
    assert "pod receipts-train-2" in found.message


def test_a_lost_node_that_a_pod_has_left_is_not_named() -> None:
    assert verdict(b.job(), on_lost_node(b.ended(137)), b.running("receipts-train-2", 90)).reason == "Running"


def test_a_pod_that_had_not_started_when_its_node_was_lost_is_named() -> None:
    found = verdict(b.job(), deleted(b.waiting("ContainerCreating"), delete_by=130), seconds=150)
    assert (found.phase, found.reason) == ("Pending", "NodeNotResponding")


@pytest.mark.parametrize("job", [b.job(suspend=True, **OURS), b.job(deletionTimestamp=b.time(10))])
def test_a_lost_node_is_named_before_any_other_reason(job: Object) -> None:
    assert verdict(job, deleted(b.running(), delete_by=130), seconds=150).reason == "NodeNotResponding"
    assert verdict(job, deleted(b.running(), delete_by=130), seconds=140).reason != "NodeNotResponding"


def test_of_several_pods_the_one_that_is_deleted_is_named_and_one_that_has_ended_is_not() -> None:
    pods = [b.running("receipts-train-1"), deleted(b.running("receipts-train-2"), delete_by=130)]
    assert "pod receipts-train-2 on" in verdict(b.job(), *pods).message
    gone = deleted(b.ended(143), delete_by=130)
    assert verdict(b.job(), gone, b.running("receipts-train-3", 90), seconds=300).reason == "Running"


def of_an_earlier_training_job(pod: Object) -> Object:
    return pod | {"metadata": pod["metadata"] | {"creationTimestamp": b.time(-60)}}


@pytest.mark.parametrize(
    ("pod", "seconds", "reason", "words"),
    [
        (b.running(), 10, "JobDeleted", "kubectl delete pod receipts-train-1"),
        (deleted(b.running(), delete_by=130), 10, "JobDeleted", f"until {b.time(130)}"),
        (deleted(b.running(), delete_by=130), 150, "NodeNotResponding", "force-delete it"),
        (of_an_earlier_training_job(b.running()), 10, "PreviousJobEnding", "a deleted TrainingJob with the same name"),
        (deleted(of_an_earlier_training_job(b.running()), delete_by=60), 80, "NodeNotResponding", "force-delete it"),
        (b.ended(143), 70, "CreatingJob", "creating the Job"),
    ],
    ids=["it runs on", "it saves", "its node is lost", "another job's", "another job's on a lost node", "it has ended"],
)
def test_without_a_job_the_pod_that_still_runs_is_named(pod: Object, seconds: float, reason: str, words: str) -> None:
    found = verdict(None, pod, seconds=seconds)
    assert (found.phase, found.reason) == ("Pending", reason)
    assert words in found.message
    if reason != "CreatingJob":
        assert "pod receipts-train-1" in found.message and "node node-1" in found.message


def test_the_pod_of_the_job_itself_is_not_left_behind() -> None:
    pods = [deleted(b.running(), delete_by=130)]
    assert derive_facts(b.resource()["metadata"], b.job(), pods).left_behind is None
    successor = derive_facts(b.resource()["metadata"], b.job(uid="new"), pods).left_behind
    assert successor and successor.name == "receipts-train-1"


def test_a_pod_on_a_lost_node_does_not_hide_the_result_of_a_later_one() -> None:
    second = b.ended(0, DONE, name="receipts-train-2")
    second["metadata"]["creationTimestamp"] = b.time(40)
    after = b.status(b.job("Complete", uid="new"), deleted(b.running(), delete_by=130), second, seconds=400)
    assert after.phase == "Succeeded"
    assert after.output == DONE.output


@pytest.mark.parametrize(
    ("pods", "seconds", "waits"),
    [([b.running()], 0, True), ([b.running()], 31, False), ([b.ended(0, DONE)], 0, False), ([], 0, False)],
    ids=["it may still be told", "its node may be lost", "it is known", "there is none"],
)
def test_the_end_of_a_pod_that_the_end_of_its_job_came_before_is_waited_for(
    pods: list[Object], seconds: float, waits: bool
) -> None:
    facts = derive_facts(b.resource()["metadata"], b.job("Complete"), pods)
    assert facts.job and facts.job.end_time
    now = Now(datetime.fromisoformat(facts.job.end_time) + timedelta(seconds=seconds), 1)
    assert awaiting_pods(facts, now) is waits


@pytest.mark.parametrize(
    ("found", "phase", "reason"),
    [
        (verdict(None, cancelled=True), "Cancelled", "Cancelled"),
        (verdict(None, b.running(), cancelled=True), "Pending", "Cancelling"),
        (verdict(None, b.ended(143), cancelled=True), "Cancelled", "Cancelled"),
        (verdict(None, of_an_earlier_training_job(b.running()), cancelled=True), "Cancelled", "Cancelled"),
        (verdict(b.job(owner="another"), cancelled=True), "Cancelled", "Cancelled"),
        (verdict(b.job(), b.running(), cancelled=True), "Pending", "Cancelling"),
        (verdict(b.job("Complete"), b.ended(0, DONE), step="preflight", cancelled=True), "Cancelled", "Cancelled"),
        (verdict(b.job("Complete"), b.ended(0, DONE), cancelled=True), "Succeeded", "Succeeded"),
        (
            verdict(b.job(), deleted(b.running(), delete_by=130), cancelled=True, seconds=150),
            "Pending",
            "NodeNotResponding",
        ),
    ],
    ids=[
        "no Job",
        "no Job, and a pod that runs",
        "no Job, and a pod that has ended",
        "no Job, and a pod of an earlier TrainingJob",
        "the Job of another",
        "pods that stop",
        "a preflight that has finished",
        "a result stays",
        "a lost node cannot stop its pod",
    ],
)
def test_a_cancelled_job(found: Verdict, phase: str, reason: str) -> None:
    assert (found.phase, found.reason) == (phase, reason)


def test_a_cancelled_job_whose_pod_runs_without_its_job_says_how_to_end_it() -> None:
    assert "kubectl delete pod receipts-train-1" in verdict(None, b.running(), cancelled=True).message


def test_time_in_the_queue_does_not_count_against_missing_seconds() -> None:
    """A node took the pod after two hours; then its volume, or its Secret, is not there at once."""
    unmounted = b.event("receipts-train-1-uid", "FailedMount", "no such share", 7200)
    pod = b.waiting("ContainerCreating", conditions=b.scheduled(7200))
    for stalled in (None, 0, 7205):
        found = verdict(b.job(), pod, stalled=stalled, seconds=7210, events=(unmounted,))
        assert (found.phase, found.reason) == ("Starting", "MountFailed")
    assert verdict(b.job(), pod, stalled=7205, seconds=7506, events=(unmounted,)).phase == "Failed"


UNBOUND = "{} nodes are available: pod has unbound immediate PersistentVolumeClaims"
NO_MODELS = 'persistentvolumeclaim "models" not found'


@pytest.mark.parametrize(
    ("looks", "failed"),
    [
        (((0, NO_CLAIM), (290, UNBOUND.format("0/1")), (301, UNBOUND.format("0/1"))), None),
        (((0, NO_CLAIM), (290, NO_MODELS), (301, NO_MODELS)), None),
        (((0, NO_CLAIM), (290, NO_MODELS), (591, NO_MODELS)), "ClaimNotFound"),
        (((0, UNBOUND.format("0/1")), (150, UNBOUND.format("0/2")), (301, UNBOUND.format("0/3"))), "ClaimNotBound"),
        (((0, NO_CLAIM), (10, NO_MODELS), (200, NO_CLAIM), (290, NO_MODELS), (301, NO_CLAIM)), "ClaimNotFound"),
        (((0, NO_CLAIM), (290, "1 Insufficient nvidia.com/gpu"), (295, NO_CLAIM), (301, NO_CLAIM)), None),
    ],
    ids=["another reason", "another claim", "each as long", "a message that changes", "in turns", "it was there"],
)
def test_a_job_waits_the_whole_time_for_each_thing_that_is_missing(
    looks: tuple[tuple[float, str], ...], failed: str | None
) -> None:
    before = NEW
    for seconds, message in looks:
        before = b.status(b.job(), b.unscheduled(message), before=before, seconds=seconds)
        assert before.failure is None or seconds == looks[-1][0]
    assert (before.failure and before.failure.reason) == failed


def test_a_refusal_that_is_over_does_not_fail_a_run_between_two_pods() -> None:
    refused = b.event("job-uid", "FailedCreate", "serviceaccount not found", 2)
    found = verdict(b.job(), b.ended(1), stalled=0, seconds=3000, events=(refused,))
    assert (found.phase, found.reason) == ("Starting", "Retrying")
    later = b.event("job-uid", "FailedCreate", "serviceaccount not found", 2990)
    assert verdict(b.job(), b.ended(1), seconds=3000, events=(later,)).phase == "Pending"


@pytest.mark.parametrize(
    ("pod", "spec", "ending"),
    [
        (b.ended(0, DONE), {}, True),
        (b.ended(3, BAD), {}, True),
        (b.ended(1), {}, False),
        (b.ended(1), {"backoffLimit": 0}, True),
        (b.ended(143, conditions=[{"type": "DisruptionTarget", "status": "True"}]), {"backoffLimit": 0}, False),
        (b.running(), {}, False),
    ],
)
def test_between_the_last_pods_end_and_the_jobs_no_status_is_written(pod: Object, spec: Object, ending: bool) -> None:
    facts = derive_facts(b.resource()["metadata"], b.job(), [pod])
    assert awaiting_job_conclusion(b.plan(**spec), facts, b.at(70)) is ending
    over = derive_facts(b.resource()["metadata"], b.job("Complete"), [pod])
    assert not awaiting_job_conclusion(b.plan(**spec), over, b.at(70))


def held_open(pod: Object) -> Object:
    """The pod, kept alive by a sidecar, as the operator keeps it in memory."""
    proxy = {"name": "istio-proxy", "state": {"running": {"startedAt": b.time(4)}}}
    containers = [*pod["status"]["containerStatuses"], proxy]
    return trim_pod(pod | {"status": pod["status"] | {"phase": "Running", "containerStatuses": containers}})


@pytest.mark.parametrize("pod", [b.ended(0, DONE), b.ended(1)])
def test_a_pod_that_a_sidecar_keeps_from_ending_is_told_with_the_fix(pod: Object) -> None:
    """The trainer ended at second 65. A sidecar that ends by itself has time for that."""
    sidecar = held_open(pod)
    assert verdict(b.job(), sidecar, seconds=90).reason != "PodNotEnding"
    found = verdict(b.job(), sidecar, seconds=96)
    assert (found.phase, found.reason, found.stalled) == ("Running", "PodNotEnding", True)
    for words in ("pod receipts-train-1", "istio-proxy", 'sidecar.istio.io/inject: "false"', "native sidecars"):
        assert words in found.message
    assert verdict(b.job(), trim_pod(pod), seconds=96).reason != "PodNotEnding", "a pod without one"
    assert verdict(b.job(), sidecar, b.running("receipts-train-2", 90), seconds=96).reason == "Running"


def test_the_status_of_a_pod_that_cannot_end_is_written_with_the_result() -> None:
    sidecar = held_open(b.ended(0, DONE))
    facts = derive_facts(b.resource()["metadata"], b.job(), [sidecar])
    assert awaiting_job_conclusion(b.plan(), facts, b.at(90))
    assert not awaiting_job_conclusion(b.plan(), facts, b.at(96))
    assert b.status(b.job(), sidecar, seconds=96).output == DONE.output
