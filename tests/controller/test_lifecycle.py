"""The life cycle of a TrainingJob on a real API server, with a scripted trainer in a real process."""

import pytest

from tests.controller.harness import OperatorHarness, assert_in_order, condition

pytestmark = pytest.mark.cluster


def test_a_job_trains_and_its_status_reports_it(harness: OperatorHarness) -> None:
    harness.submit("plain", {"STEPS": 12, "STEP_SECONDS": 0.25})
    status = harness.until("plain", "Succeeded")
    assert status["progress"]["step"] == 12
    assert [point["step"] for point in status["history"]] == list(range(1, 13))
    assert status["history"][-1]["loss"] < status["history"][0]["loss"]
    assert status["dataset"] == {"rows": 10, "images": 10, "measuredBy": "Trainer"}
    assert status["output"]["path"] == "models/plain"
    assert status["lastCheckpointStep"] == 10
    assert status["jobName"] == "plain-train"
    assert [(a["reason"], a["fromStep"], a["toStep"]) for a in status["attempts"]] == [("Completed", 0, 12)]
    assert status["effectiveSpec"]["hyperparameters"]["learningRate"] == 2e-4
    assert status["startTime"] <= status["completionTime"]
    assert "failure" not in status
    truths = {c["type"] for c in status["conditions"] if c["status"] == "True"}
    assert truths == {"Complete", "Finished"}
    assert condition(status, "Finished")["reason"] == "Succeeded"
    assert_in_order(harness, "plain", "Pending", "Starting", "Running", "Succeeded")


def test_the_trainer_can_do_nothing_in_the_cluster(harness: OperatorHarness) -> None:
    harness.submit("bare", {"STEPS": 1})
    harness.until("bare", "Succeeded")
    [pod] = harness.pods("bare")
    assert not [volume for volume in pod["spec"]["volumes"] if "projected" in volume]
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_the_pods_are_allowed_under_restricted_pod_security(harness: OperatorHarness) -> None:
    harness.kubectl("label", "namespace", harness.namespace, "pod-security.kubernetes.io/enforce=restricted")
    try:
        harness.submit("restricted", {"STEPS": 1})
        harness.until("restricted", "Succeeded")
    finally:
        harness.kubectl("label", "namespace", harness.namespace, "pod-security.kubernetes.io/enforce-")


def test_suspend_stops_the_pod_and_training_resumes(harness: OperatorHarness) -> None:
    harness.submit("pausing", {"STEPS": 30, "HANG_AT_STEP": 3}, backoffLimit=0)
    harness.until_step("pausing", 3)
    harness.patch("trainingjob", "pausing", {"spec": {"suspend": True}})
    status = harness.until("pausing", "Suspended")
    assert condition(status, "Running")["status"] == "False"
    harness.cluster.until(lambda: not harness.pods("pausing"), "suspended: no pod")
    stopped_at = harness.cluster.until(lambda: harness.status("pausing")["attempts"][0].get("toStep"))
    harness.patch("trainingjob", "pausing", {"spec": {"suspend": None}})
    status = harness.until("pausing", "Succeeded")
    first, second = status["attempts"]
    assert (first["reason"], second["reason"]) == ("Stopped", "Completed")
    assert first["toStep"] == second["fromStep"] == stopped_at == 3
    assert second["toStep"] == 30
    assert [point["step"] for point in status["history"]] == list(range(1, 31))


def test_a_job_created_suspended_waits(harness: OperatorHarness) -> None:
    harness.submit("asleep", {"STEPS": 2}, suspend=True)
    status = harness.until("asleep", "Suspended")
    assert condition(status, "Reconciling")["status"] == "False"
    assert not harness.pods("asleep")
    harness.patch("trainingjob", "asleep", {"spec": {"suspend": False}})
    harness.until("asleep", "Succeeded")


def test_a_job_suspended_outside_the_operator_is_reported_and_not_changed(harness: OperatorHarness) -> None:
    harness.submit("elsewhere", {"STEPS": 10_000})
    harness.until("elsewhere", "Running")
    harness.patch("job", "elsewhere-train", {"spec": {"suspend": True}})
    status = harness.until("elsewhere", "Suspended")
    assert "Job elsewhere-train was suspended outside the operator" in condition(status, "Running")["message"]
    harness.kubectl("delete", "trainingjob", "elsewhere")


def test_stop_and_save_ends_early_and_succeeds(harness: OperatorHarness) -> None:
    harness.submit("enough", {"STEPS": 1000, "STEP_SECONDS": 0.1})
    harness.until_step("enough", 2)
    harness.annotate("enough", "model-garden.dev/stop=save")
    status = harness.until("enough", "Succeeded")
    assert 2 <= status["progress"]["step"] < 1000
    assert status["progress"]["totalSteps"] == 1000
    assert status["output"]["path"] == "models/enough"
    assert status["attempts"][0]["reason"] == "Stopped"
    assert "stopped early" in condition(status, "Complete")["message"]


def test_a_stop_requested_before_the_pod_starts_has_effect(harness: OperatorHarness) -> None:
    harness.submit("early", {"STEPS": 1000}, metadata={"annotations": {"model-garden.dev/stop": "save"}})
    assert harness.until("early", "Succeeded")["progress"]["step"] < 1000


def test_a_finished_job_is_kept_until_its_ttl_and_never_run_again(harness: OperatorHarness) -> None:
    harness.submit("brief", {"STEPS": 1}, ttlSecondsAfterFinished=1)
    before = harness.until("brief", "Succeeded")
    harness.cluster.until(lambda: harness.job("brief") is None, "the TTL deletes the Job")
    harness.patch("trainingjob", "brief", {"metadata": {"labels": {"touched": "yes"}}})
    harness.submit("later", {"STEPS": 1})  # by the time it is done, the touch has been seen too
    harness.until("later", "Succeeded")
    assert harness.job("brief") is None
    assert harness.status("brief") == before


def test_a_ttl_given_after_the_end_is_applied(harness: OperatorHarness) -> None:
    harness.submit("kept", {"STEPS": 1})
    harness.until("kept", "Succeeded")
    assert harness.job("kept")
    harness.patch("trainingjob", "kept", {"spec": {"ttlSecondsAfterFinished": 0}})
    harness.cluster.until(lambda: harness.job("kept") is None, "the new TTL deletes the Job")


def test_cancel_ends_the_pod_and_starts_no_other(harness: OperatorHarness) -> None:
    harness.submit("unwanted", {"STEPS": 1000})
    harness.until_step("unwanted", 1)
    harness.annotate("unwanted", "model-garden.dev/cancel=true")
    status = harness.until("unwanted", "Cancelled")
    assert condition(status, "Finished")["reason"] == "Cancelled"
    assert status["attempts"][0]["reason"] == "Stopped"
    assert status["progress"]["step"] < 1000
    assert harness.job("unwanted") is None
    assert harness.pods("unwanted") == []


def test_figures_arrive_while_it_trains(harness: OperatorHarness) -> None:
    harness.submit("live", {"STEPS": 10_000})
    status = harness.until_step("live", 3)
    assert status["phase"] == "Running"
    assert condition(status, "Running")["status"] == "True"
    assert status["history"][-1]["step"] == status["progress"]["step"]
    assert harness.until_step("live", status["progress"]["step"] + 3)["phase"] == "Running"
    for metric in ('job_step{name="live",namespace="garden"}', 'jobs{namespace="garden",phase="Running"}'):
        harness.cluster.until(lambda metric=metric: f"model_garden_{metric}" in harness.metrics(), metric)
    harness.cluster.until(lambda: harness.health()["leads"])
    harness.kubectl("delete", "trainingjob", "live")
    harness.cluster.until(lambda: not harness.pods("live"), "the pod goes with its TrainingJob")
