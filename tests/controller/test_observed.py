"""From a Job, its Pods and its Events to facts."""

import pytest

from model_garden.contract.progress import Outcome
from model_garden.contract.status import OutputStatus
from model_garden.controller.observed import GONE, End, derive_facts, trim_job, trim_pod
from model_garden.controller.pod_reasons import PendingReason
from tests.controller import builders as b
from tests.controller.builders import Object

DONE = Outcome(result="Succeeded", exit_code=0, output=OutputStatus(path="models/receipts"))
EARLY = DONE.model_copy(update={"stopped_early": True})
STOPPED = Outcome(result="Stopped", exit_code=143, checkpoint_step=7)
BAD = Outcome(result="Failed", exit_code=3, reason="InvalidDataset", message="rows.jsonl row 7: no answer")


def end_of(pod: Object) -> End:
    [facts] = derive_facts(b.resource()["metadata"], b.job(), [pod]).pods
    assert facts.end
    return facts.end


def why(pod: Object, *events: Object) -> PendingReason:
    [facts] = derive_facts(b.resource()["metadata"], b.job(), [pod], events).pods
    assert facts.waiting
    return facts.waiting


def disrupted(reason: str, message: str = "") -> list[Object]:
    return [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}]


@pytest.mark.parametrize(
    ("pod", "reason", "said"),
    [
        (b.ended(0, DONE), "Completed", None),
        (b.ended(0, EARLY), "Stopped", None),
        (b.ended(0), "Completed", None),
        (b.ended(3, BAD), "Error", "rows.jsonl row 7: no answer"),
        (b.ended(143, STOPPED), "Stopped", None),
        (b.ended(143, STOPPED, conditions=disrupted("PreemptionByScheduler")), "Preempted", "higher-priority"),
        (b.ended(143, STOPPED, conditions=disrupted("EvictionByEvictionAPI", "drained")), "Evicted", "drained"),
        (b.ended(137, conditions=disrupted("DeletionByPodGC", "node is gone")), "Evicted", "node is gone"),
        (b.pod(phase="Failed", reason="Evicted", message="low on memory"), "Evicted", "low on memory"),
        (b.ended(137, reason="OOMKilled"), "Error", "its memory limit of 8Gi"),
        (b.ended(137), "Error", "SIGKILL"),
        (b.ended(139), "Error", "signal 11"),
        (b.ended(1), "Error", "exit code 1 and left no termination message"),
        (b.ended(128, reason="StartError"), "Error", "could not start"),
        (b.running() | {GONE: True}, "Error", "its end was not seen"),
    ],
)
def test_how_a_pod_ended(pod: Object, reason: str, said: str | None) -> None:
    end = end_of(pod)
    assert end.reason == reason
    assert (said is None) if end.message is None else (said or "") in end.message


def test_a_pod_that_was_deleted_while_it_ran_was_stopped() -> None:
    pod = b.running() | {GONE: True}
    pod["metadata"]["deletionTimestamp"] = b.time(60)
    assert end_of(pod).reason == "Stopped"


@pytest.mark.parametrize(
    ("message", "kind", "reason", "words"),
    [
        (
            "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. no new claims to deallocate",
            "Capacity",
            "NoFreeGPU",
            "waiting for a GPU: no node has enough free nvidia.com/gpu (",
        ),
        ("0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient nvidia.com/gpu.", "Capacity", "NoFreeGPU", "GPU"),
        ("0/1 nodes are available: 1 Insufficient memory.", "Capacity", "NoFreeCapacity", "enough free memory ("),
        ("0/1 nodes are available: 1 node(s) had untolerated taint {x: }.", "Capacity", "Unschedulable", "tolerations"),
        (
            "0/1 nodes are available: request gpu: device class gpu.nvidia.com does not exist. still not schedulable",
            "Missing",
            "NotFound",
            "the DeviceClass 'gpu.nvidia.com' does not exist in the cluster; request 'gpu' of",
        ),
        (
            "0/2 nodes are available: 2 cannot allocate all claims.",
            "Capacity",
            "NoFreeDevice",
            "no node has a free one for the claims",
        ),
        ("0/2 nodes are available: resourceclaim in use.", "Capacity", "NoFreeDevice", "no node has a free one"),
        ('persistentvolumeclaim "rows" not found', "Missing", "ClaimNotFound", "'rows' does not exist"),
        (
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
            "Missing",
            "ClaimNotBound",
            "no volume yet",
        ),
    ],
)
def test_why_a_pod_has_no_node(message: str, kind: str, reason: str, words: str) -> None:
    waiting = why(b.unscheduled(message))
    assert (waiting.kind, waiting.reason) == (kind, reason)
    assert words in waiting.message


@pytest.mark.parametrize(
    ("reason", "message", "kind", "words"),
    [
        ("ImagePullBackOff", "Back-off pulling image", "Image", "spec.image"),
        ("ErrImagePull", "dial tcp 10.0.0.7:443: i/o timeout", "Image", "i/o timeout"),
        ("ErrImagePull", "unexpected status: 503 Service Unavailable", "Image", "503"),
        ("ErrImagePull", "docker.io/library/x:1: not found", "Missing", "not found"),
        ("ErrImagePull", "dial tcp: lookup registry.invalid: no such host", "Missing", "no such host"),
        ("ImagePullBackOff", "pull access denied, repository does not exist", "Missing", "imagePullSecrets"),
        ("ImagePullBackOff", "failed to authorize: 401 Unauthorized", "Missing", "imagePullSecrets"),
        ("InvalidImageName", "couldn't parse", "Missing", "spec.image"),
        (
            "CreateContainerConfigError",
            'secret "hub" not found',
            "Missing",
            "Secret 'hub' does not exist in this namespace; create it (one of spec.hubTokenSecret, spec.storage",
        ),
        ("ContainerCreating", "", "Starting", "being created"),
    ],
)
def test_why_a_container_does_not_run(reason: str, message: str, kind: str, words: str) -> None:
    waiting = why(b.waiting(reason, message))
    assert waiting.kind == kind
    assert words in waiting.message


def test_a_volume_that_cannot_be_mounted_is_found_in_events() -> None:
    mount = b.event("receipts-train-1-uid", "FailedMount", "MountVolume.SetUp failed: no such share", 10)
    assert "no such share" in why(b.waiting("ContainerCreating"), mount).message
    pulling = b.event("receipts-train-1-uid", "Pulling", "Pulling image", 20)
    assert why(b.waiting("ContainerCreating"), mount, pulling).kind == "Starting"


@pytest.mark.parametrize(
    ("message", "kind", "reason"),
    [
        ('pods "x" is forbidden: exceeded quota: q', "Capacity", "QuotaExceeded"),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest"', "Refused", "PodRefused"),
        ("serviceaccount not found", "Refused", "PodRefused"),
    ],
)
def test_why_a_job_has_no_pod(message: str, kind: str, reason: str) -> None:
    events = [b.event("job-uid", "FailedCreate", "old", 1), b.event("job-uid", "FailedCreate", message, 2)]
    job = derive_facts(b.resource()["metadata"], b.job(), [], events).job
    assert job and job.start_problem
    assert (job.start_problem.kind, job.start_problem.reason) == (kind, reason)


def test_a_refusal_from_before_the_newest_pod_is_over() -> None:
    refused = b.event("job-uid", "FailedCreate", "serviceaccount not found", 2)
    job = derive_facts(b.resource()["metadata"], b.job(), [b.ended(1)], [refused]).job
    assert job and job.start_problem is None


def test_pods_and_job_of_an_earlier_training_job_of_that_name_are_not_ours() -> None:
    before = b.running()
    before["metadata"]["creationTimestamp"] = b.time(-60)
    facts = derive_facts(b.resource()["metadata"], b.job(owner="another"), [before, b.running("receipts-train-2")])
    assert facts.job and not facts.job.owned
    assert facts.pods == ()


def test_pods_are_in_the_order_of_their_creation() -> None:
    pods = [b.running("late", 90), b.ended(1, name="early")]
    facts = derive_facts(b.resource()["metadata"], b.job(), pods)
    assert [pod.name for pod in facts.pods] == ["early", "late"]
    assert facts.current and facts.current.name == "late"
    assert facts.last_ended and facts.last_ended.name == "early"


def test_trimmed_objects_give_the_same_facts() -> None:
    whole = b.ended(137, reason="OOMKilled")
    job = b.job("Failed", reason="BackoffLimitExceeded")
    owner = b.resource()["metadata"]
    assert derive_facts(owner, trim_job(job), [trim_pod(whole)]) == derive_facts(owner, job, [whole])
