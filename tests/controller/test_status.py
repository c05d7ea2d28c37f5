"""From facts to the status that people and machines read."""

from dataclasses import replace
from typing import Any

import pytest

from model_garden.builders.settings import Settings
from model_garden.contract.progress import Outcome
from model_garden.contract.status import OutputStatus, Progress, TrainingJobStatus
from model_garden.controller.observed import observe
from model_garden.controller.status import conditions, finished, invalid, next_status, read_status, urgent
from model_garden.controller.trainer_events import Steps, Training
from model_garden.controller.verdict import Verdict, awaiting_job_conclusion, judge
from tests.controller import builders as b
from tests.controller.builders import Object

NEW = TrainingJobStatus()
AT_7 = Progress(step=7, total_steps=10, loss=1.0)
DONE = Outcome(result="Succeeded", exit_code=0, output=OutputStatus(path="models/receipts"), progress=AT_7)
BAD = Outcome(result="Failed", exit_code=3, reason="InvalidDataset", message="rows.jsonl row 7: no answer")


def verdict(
    job: Object | None,
    *pods: Object,
    seconds: float = 10,
    stalled: float | None = None,
    events: tuple[Object, ...] = (),
    **spec: Any,
) -> Verdict:
    """The verdict at a time, on a job that is stalled since another one."""
    facts = observe(b.resource()["metadata"], job, pods, events)
    problem = Verdict("Pending", "Missing", "something", stalled=True)
    before = NEW
    if stalled is not None:
        before = TrainingJobStatus(conditions=conditions(NEW, problem, b.at(stalled), job_exists=True))
    return judge(b.plan(**spec), facts, Training(stage="training"), before, b.at(seconds), missing_seconds=300)


def status(
    job: Object | None,
    *pods: Object,
    before: TrainingJobStatus = NEW,
    training: Training = Training(),  # noqa: B008 - frozen
    seconds: float = 70,
    tail: tuple[str, ...] = (),
    **spec: Any,
) -> TrainingJobStatus:
    plan = b.plan(**spec)
    facts = observe(b.resource()["metadata"], job, pods)
    found = judge(plan, facts, training, before, b.at(seconds), missing_seconds=300)
    return next_status(before, found, plan, facts, training, b.at(seconds), tail)


def truths(status: TrainingJobStatus) -> set[str]:
    return {c.type for c in status.conditions or () if c.status == "True"}


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
        (verdict(b.job(suspend=True), **QUEUE), "Queued", "WaitingForQuota", False),
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
def test_a_pod_that_is_to_be_deleted_names_its_node_and_the_way_out(seconds: float, phase: str, reason: str) -> None:
    """With podReplacementPolicy: Failed no other pod starts while a lost node cannot say that this one has ended."""
    found = verdict(b.job(), deleted(b.running(), delete_by=130), seconds=seconds)
    assert (found.phase, found.reason, found.stalled) == (phase, reason, phase == "Pending")
    for words in ("node node-1", "(a taint)", "bring the node back", "delete the Node", "force-delete the pod"):
        assert words in found.message


@pytest.mark.parametrize("job", [b.job(suspend=True, **OURS), b.job(deletionTimestamp=b.time(10))])
def test_a_lost_node_is_named_whatever_else_its_pod_holds_up(job: Object) -> None:
    assert verdict(job, deleted(b.running(), delete_by=130), seconds=150).reason == "NodeNotResponding"
    assert verdict(job, deleted(b.running(), delete_by=130), seconds=140).reason != "NodeNotResponding"


def test_of_several_pods_the_one_that_is_deleted_is_named_and_one_that_has_ended_is_not() -> None:
    pods = [b.running("receipts-train-1"), deleted(b.running("receipts-train-2"), delete_by=130)]
    assert "pod receipts-train-2 on" in verdict(b.job(), *pods).message
    gone = deleted(b.ended(143), delete_by=130)
    assert verdict(b.job(), gone, b.running("receipts-train-3", 90), seconds=300).reason == "Running"


@pytest.mark.parametrize(
    ("job_reason", "pod", "reason", "words"),
    [
        ("PodFailurePolicy", b.ended(3, BAD), "InvalidDataset", "rows.jsonl row 7: no answer"),
        ("PodFailurePolicy", b.ended(4), "ModelNotFound", "exit code 4"),
        ("BackoffLimitExceeded", b.ended(1), "TrainerError", "spec.backoffLimit is 3"),
        ("BackoffLimitExceeded", b.ended(137, reason="OOMKilled"), "OutOfMemory", "spec.resources.limits.memory"),
        ("DeadlineExceeded", b.ended(143), "DeadlineExceeded", "spec.activeDeadlineSeconds"),
    ],
)
def test_a_failure_says_why_and_what_to_do(job_reason: str, pod: Object, reason: str, words: str) -> None:
    failure = status(b.job("Failed", reason=job_reason), pod, tail=("last words",)).failure
    assert failure and failure.reason == reason
    assert words in failure.message
    assert failure.log_tail == ["last words"]


def test_success_is_what_was_trained_not_a_hundred_percent() -> None:
    end = status(b.job("Complete"), b.ended(0, DONE))
    assert end.progress and (end.progress.step, end.progress.total_steps) == (7, 10)
    assert end.output and end.output.path == "models/receipts"
    assert end.completion_time == b.time(100)
    assert truths(end) == {"Complete", "Finished"}


def test_hours_in_the_queue_are_no_hours_of_waiting_for_what_is_missing() -> None:
    """A node took the pod after two hours; then its volume, or its Secret, is not there at once."""
    unmounted = b.event("receipts-train-1-uid", "FailedMount", "no such share", 7200)
    pod = b.waiting("ContainerCreating", conditions=b.scheduled(7200))
    for stalled in (None, 0, 7205):
        found = verdict(b.job(), pod, stalled=stalled, seconds=7210, events=(unmounted,))
        assert (found.phase, found.reason) == ("Starting", "MountFailed")
    assert verdict(b.job(), pod, stalled=7205, seconds=7506, events=(unmounted,)).phase == "Failed"


def test_a_refusal_that_is_over_does_not_fail_a_run_between_two_pods() -> None:
    refused = b.event("job-uid", "FailedCreate", "serviceaccount not found", 2)
    found = verdict(b.job(), b.ended(1), stalled=0, seconds=3000, events=(refused,))
    assert (found.phase, found.reason) == ("Starting", "Retrying")
    later = b.event("job-uid", "FailedCreate", "serviceaccount not found", 2990)
    assert verdict(b.job(), b.ended(1), seconds=3000, events=(later,)).phase == "Pending"


def test_new_settings_of_the_operator_change_nothing_of_a_job_that_exists() -> None:
    before = status(b.job(), b.running())
    facts = observe(b.resource()["metadata"], b.job(), [b.running()])
    plan = b.plan(Settings(trainer_image="another:2"), suspend=True, ttlSecondsAfterFinished=9)
    found = judge(plan, facts, Training(), before, b.at(), missing_seconds=300)
    effective = next_status(before, found, plan, facts, Training(), b.at()).effective_spec
    assert effective == (before.effective_spec or {}) | {"suspend": True, "ttlSecondsAfterFinished": 9}


def test_a_job_is_named_once_it_was_seen() -> None:
    assert status(None).job_name is None
    seen = status(b.job())
    assert seen.job_name == "receipts-train"
    assert status(b.job(owner="another"), before=seen).job_name == "receipts-train"


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        ({}, []),
        ({"progress": {"step": -1, "totalSteps": 5}}, ["status.progress"]),
        ({"phase": "Dreaming", "history": 7}, ["status.phase", "status.history"]),
        ({"history": [{"step": 1}, {"step": "x"}]}, ["status.history[1]"]),
    ],
)
def test_what_cannot_be_read_of_a_status_costs_no_more_than_itself(change: Object, lost: list[str]) -> None:
    recorded = status(b.job("Complete"), b.ended(0, DONE)).to_dict()
    found, told = read_status(recorded | change)
    assert finished(found), "it never runs again"
    assert told == lost
    if not change:
        assert found.to_dict() == recorded


def test_kstatus_sees_progress_until_the_job_exists_then_current_then_the_failure() -> None:
    assert truths(status(None)) == {"Reconciling"}
    assert truths(status(b.job())) == set()
    assert truths(status(None, suspend=True, **QUEUE)) == set()
    assert truths(status(b.job(), b.running())) == {"Running"}
    assert truths(status(b.job("Failed"), b.ended(3, BAD))) == {"Stalled", "Failed", "Finished"}


def test_a_condition_keeps_its_time_while_it_is_unchanged() -> None:
    first = status(b.job(), b.running(), seconds=10)
    second = status(b.job(), b.running(), before=first, seconds=500)
    assert second.conditions == first.conditions
    end = status(b.job("Complete"), b.ended(0, DONE), before=second, seconds=900)
    changed = {c.type for c in end.conditions or () if c.last_transition_time == b.time(900)}
    assert changed == {"Running", "Complete", "Finished"}


def test_the_same_facts_again_change_nothing() -> None:
    training = Training(progress=AT_7, steps=(("receipts-train-1", Steps(0, 7)),))
    first = status(b.job(), b.running(), training=training, seconds=10)
    assert status(b.job(), b.running(), before=first, training=training, seconds=500) == first


def test_attempts_are_told_once_each_with_their_steps() -> None:
    first = status(b.job(), b.running(), training=Training(steps=(("receipts-train-1", Steps(0, 7)),)))
    assert [(a.pod, a.from_step, a.to_step, a.end_time) for a in first.attempts or ()] == [
        ("receipts-train-1", 0, 7, None)
    ]
    both = Training(steps=(("receipts-train-1", Steps(0, 7)), ("second", Steps(5, 9))))
    later = status(b.job(), b.ended(1), b.running("second", 90), before=first, training=both)
    assert [(a.pod, a.reason, a.from_step, a.to_step) for a in later.attempts or ()] == [
        ("receipts-train-1", "Error", 0, 7),
        ("second", None, 5, 9),
    ]


def test_a_pod_that_vanished_unseen_is_an_attempt_that_ended() -> None:
    first = status(b.job(), b.running())
    [attempt] = status(b.job(), before=first).attempts or ()
    assert attempt.end_time == b.time(70)
    assert attempt.message == "the pod is gone, and how it ended was not seen"


def test_the_last_ten_attempts_are_kept() -> None:
    pods = [b.ended(1, name=f"pod-{number:02}") for number in range(14)]
    kept = status(b.job(), *pods).attempts or ()
    assert [a.pod for a in kept] == [f"pod-{number:02}" for number in range(4, 14)]


def test_figures_outlive_the_pods_they_came_from() -> None:
    training = Training(progress=AT_7, checkpoint=5)
    first = status(b.job(), b.running(), training=training)
    later = status(b.job(suspend=True, **OURS), before=first, training=training, suspend=True)
    assert later.progress == AT_7
    assert later.last_checkpoint_step == 5
    assert later.start_time == b.time(5)


def test_an_invalid_spec_is_final_and_says_each_problem() -> None:
    end = invalid(NEW, ["spec.a: wrong", "spec.b: wrong too"], b.at())
    assert finished(end)
    assert end.failure and end.failure.message == "spec.a: wrong\nspec.b: wrong too"
    assert truths(end) == {"Stalled", "Failed", "Finished"}


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
    facts = observe(b.resource()["metadata"], b.job(), [pod])
    assert awaiting_job_conclusion(b.plan(**spec), facts) is ending
    assert not awaiting_job_conclusion(b.plan(**spec), observe(b.resource()["metadata"], b.job("Complete"), [pod]))


def test_figures_and_wording_can_wait_a_phase_cannot() -> None:
    first = status(b.job(), b.running(), training=Training(progress=AT_7, stage="training"))
    more = AT_7.model_copy(update={"step": 8})
    second = status(b.job(), b.running(), before=first, training=Training(progress=more, stage="saving"))
    assert not urgent(first, second)
    assert second != first
    assert urgent(second, status(b.job("Complete"), b.ended(0, DONE), before=second))
    assert urgent(NEW, first)


def test_every_condition_is_there_from_the_start() -> None:
    found = conditions(NEW, Verdict("Pending", "CreatingJob", "soon"), b.at(), job_exists=False)
    assert {c.type for c in found} == {"Reconciling", "Stalled", "Queued", "Running", "Complete", "Failed", "Finished"}
    assert all(c.observed_generation == 1 for c in found)


PREFLIGHT_DONE = Outcome(result="Succeeded", exit_code=0)


@pytest.mark.parametrize(
    ("job", "pod", "phase", "reason"),
    [
        (b.job(), b.running(), "Preparing", "Running"),
        (b.job(), b.waiting("ContainerCreating"), "Preparing", "Starting"),
        (b.job(), b.unscheduled("1 Insufficient cpu"), "Pending", "NoFreeCapacity"),
        (b.job(suspend=True, **OURS), None, "Suspended", "Suspended"),
        (b.job("Complete"), b.ended(0, PREFLIGHT_DONE), "Pending", "PreflightSucceeded"),
        (b.job("Failed", reason="PodFailurePolicy"), b.ended(3, BAD), "Failed", "InvalidDataset"),
    ],
)
def test_a_preflight_is_preparing_until_it_is_done(job: Object, pod: Object | None, phase: str, reason: str) -> None:
    plan = replace(b.plan(), step="preflight")
    facts = observe(b.resource()["metadata"], job, [pod] if pod else [])
    found = judge(plan, facts, Training(stage="dataset"), NEW, b.at(10), missing_seconds=300)
    assert (found.phase, found.reason) == (phase, reason)
    told = next_status(NEW, found, plan, facts, Training(), b.at(10))
    assert told.attempts is None and told.start_time is None
    assert (told.preflight_completion_time is not None) is (reason == "PreflightSucceeded")
