"""From a verdict to the status that people and machines read."""

from dataclasses import replace

import pytest

from model_garden.builders.settings import Settings
from model_garden.contract.progress import Outcome
from model_garden.contract.reasons import REASONS
from model_garden.contract.status import TrainingJobStatus
from model_garden.controller.status import conditions, finished, invalid, next_status, read_status, urgent
from model_garden.controller.trainer_events import Steps, Training
from model_garden.controller.verdict import Verdict, judge
from tests.controller import builders as b
from tests.controller.builders import AT_7, BAD, DONE, NEW, OURS, QUEUE, Object, observation, status


def truths(status: TrainingJobStatus) -> set[str]:
    return {c.type for c in status.conditions or () if c.status == "True"}


@pytest.mark.parametrize(
    ("job_reason", "pod", "reason", "words"),
    [
        ("PodFailurePolicy", b.ended(3, BAD), "InvalidDataset", "rows.jsonl row 7: no answer"),
        ("PodFailurePolicy", b.ended(4), "ModelNotFound", "exit code 4"),
        ("BackoffLimitExceeded", b.ended(1), "TrainerError", "spec.backoffLimit is 3"),
        ("BackoffLimitExceeded", b.ended(137, reason="OOMKilled"), "OutOfMemory", "spec.resources.limits.memory"),
        (
            "DeadlineExceeded",
            b.ended(143),
            "DeadlineExceeded",
            "--set activeDeadlineSeconds=SECONDS --set outputDir=./models/",
        ),
    ],
)
def test_a_failure_has_a_reason_and_a_fix(job_reason: str, pod: Object, reason: str, words: str) -> None:
    failure = status(b.job("Failed", reason=job_reason), pod, tail=("last words",)).failure
    assert failure and failure.reason == reason
    assert words in failure.message
    assert failure.log_tail == ["last words"]


@pytest.mark.parametrize("job_reason", ["PodFailurePolicy", "BackoffLimitExceeded", "DeadlineExceeded"])
def test_a_failure_whose_pod_is_gone_has_a_reason_of_the_table(job_reason: str) -> None:
    failure = status(b.job("Failed", reason=job_reason)).failure
    assert failure and failure.reason == job_reason
    assert job_reason in {reason.name for reason in REASONS}


def test_success_reports_the_steps_that_were_trained() -> None:
    end = status(b.job("Complete"), b.ended(0, DONE))
    assert end.progress and (end.progress.step, end.progress.total_steps) == (7, 10)
    assert end.output and end.output.path == "models/receipts"
    assert end.completion_time == b.time(100)
    assert truths(end) == {"Complete", "Finished"}


def test_new_settings_of_the_operator_change_nothing_of_a_job_that_exists() -> None:
    before = status(b.job(), b.running())
    plan = b.plan(Settings(trainer_image="another:2"), suspend=True, ttlSecondsAfterFinished=9)
    seen = replace(observation(b.job(), b.running(), before=before), plan=plan)
    effective = next_status(seen, judge(seen, missing_seconds=300)).effective_spec
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
def test_an_unreadable_field_of_a_status_loses_no_other_field(change: Object, lost: list[str]) -> None:
    recorded = status(b.job("Complete"), b.ended(0, DONE)).to_dict()
    found, reported = read_status(recorded | change)
    assert finished(found), "it never runs again"
    assert reported == lost
    if not change:
        assert found.to_dict() == recorded


def test_kstatus_sees_progress_until_the_pod_has_started_then_current_then_the_failure() -> None:
    assert truths(status(None)) == {"Reconciling"}
    assert truths(status(b.job())) == {"Reconciling"}
    assert truths(status(b.job(), b.waiting("ContainerCreating"))) == {"Reconciling"}
    assert truths(status(b.job(), b.unscheduled("1 Insufficient nvidia.com/gpu"))) == set()
    assert truths(status(b.job(), b.waiting("ImagePullBackOff"))) == {"Stalled"}
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


def test_each_attempt_is_listed_once_with_its_steps() -> None:
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
    assert attempt.message == "the pod is gone and its end was not seen"


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


def test_an_invalid_spec_is_final_and_names_each_problem() -> None:
    end = invalid(NEW, ["spec.a: wrong", "spec.b: wrong too"], b.at())
    assert finished(end)
    assert end.failure and end.failure.message == "spec.a: wrong\nspec.b: wrong too"
    assert truths(end) == {"Stalled", "Failed", "Finished"}


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
    pods = [pod] if pod else []
    seen = replace(observation(job, *pods, seconds=10), plan=replace(b.plan(), step="preflight"))
    found = judge(seen, missing_seconds=300)
    assert (found.phase, found.reason) == (phase, reason)
    written = next_status(seen, found)
    assert written.attempts is None and written.start_time is None
    assert (written.preflight_completion_time is not None) is (reason == "PreflightSucceeded")


def test_what_the_preflight_fetched_stays_while_the_job_trains() -> None:
    fetched = {"datasetPath": "ab12"}
    done = b.ended(0, Outcome(result="Succeeded", exit_code=0, fetched=fetched))
    seen = replace(observation(b.job("Complete"), done, seconds=10), plan=replace(b.plan(), step="preflight"))
    prepared = next_status(seen, judge(seen, missing_seconds=300))
    assert prepared.fetched == fetched
    assert status(b.job(), b.running(), before=prepared).fetched == fetched
