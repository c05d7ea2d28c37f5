"""A TrainingJob's life on a real API server, with a scripted trainer in a real process."""

import urllib.request

import pytest

from tests.controller.garden import Garden, condition

pytestmark = pytest.mark.cluster


def test_a_job_trains_and_its_status_tells_all_of_it(garden: Garden) -> None:
    garden.submit("plain", {"STEPS": 12, "STEP_SECONDS": 0.05})
    status = garden.until("plain", "Succeeded")
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
    phases = [reason for reason, _ in garden.cluster.until(lambda: _with(garden.events("plain"), "Succeeded"))]
    assert phases == ["Starting", "Running", "Succeeded"]


def test_the_trainer_can_do_nothing_in_the_cluster(garden: Garden) -> None:
    garden.submit("bare", {"STEPS": 1})
    garden.until("bare", "Succeeded")
    [pod] = garden.pods("bare")
    assert not [volume for volume in pod["spec"]["volumes"] if "projected" in volume]
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_the_pods_are_allowed_under_restricted_pod_security(garden: Garden) -> None:
    garden.kubectl("label", "namespace", garden.namespace, "pod-security.kubernetes.io/enforce=restricted")
    try:
        garden.submit("restricted", {"STEPS": 1})
        garden.until("restricted", "Succeeded")
    finally:
        garden.kubectl("label", "namespace", garden.namespace, "pod-security.kubernetes.io/enforce-")


def test_suspend_stops_the_pod_and_resume_trains_on(garden: Garden) -> None:
    garden.submit("pausing", {"STEPS": 30, "STEP_SECONDS": 0.1}, backoffLimit=0)
    garden.until_step("pausing", 3)
    garden.patch("trainingjob", "pausing", {"spec": {"suspend": True}})
    status = garden.until("pausing", "Suspended")
    assert condition(status, "Running")["status"] == "False"
    garden.cluster.until(lambda: not garden.pods("pausing"), "suspended: no pod")
    stopped_at = garden.cluster.until(lambda: garden.status("pausing")["attempts"][0].get("toStep"))
    garden.patch("trainingjob", "pausing", {"spec": {"suspend": None}})
    status = garden.until("pausing", "Succeeded")
    first, second = status["attempts"]
    assert (first["reason"], second["reason"]) == ("Stopped", "Completed")
    assert first["toStep"] == second["fromStep"] >= stopped_at
    assert second["toStep"] == 30
    assert [point["step"] for point in status["history"]] == list(range(1, 31))


def test_a_job_born_suspended_waits(garden: Garden) -> None:
    garden.submit("asleep", {"STEPS": 2}, suspend=True)
    status = garden.until("asleep", "Suspended")
    assert condition(status, "Reconciling")["status"] == "False"
    assert not garden.pods("asleep")
    garden.patch("trainingjob", "asleep", {"spec": {"suspend": False}})
    garden.until("asleep", "Succeeded")


def test_a_job_suspended_by_somebody_else_is_left_alone_and_says_so(garden: Garden) -> None:
    garden.submit("elsewhere", {"STEPS": 100})
    garden.until("elsewhere", "Running")
    garden.patch("job", "elsewhere-train", {"spec": {"suspend": True}})
    status = garden.until("elsewhere", "Suspended")
    assert "Job elsewhere-train was suspended outside the operator" in condition(status, "Running")["message"]
    garden.kubectl("delete", "trainingjob", "elsewhere")


def test_stop_and_save_ends_early_and_succeeds(garden: Garden) -> None:
    garden.submit("enough", {"STEPS": 1000, "STEP_SECONDS": 0.1})
    garden.until_step("enough", 2)
    garden.annotate("enough", "model-garden.dev/stop=save")
    status = garden.until("enough", "Succeeded")
    assert 2 <= status["progress"]["step"] < 1000
    assert status["progress"]["totalSteps"] == 1000
    assert status["output"]["path"] == "models/enough"
    assert status["attempts"][0]["reason"] == "Stopped"
    assert "stopped early" in condition(status, "Complete")["message"]


def test_a_stop_asked_for_before_the_pod_starts_is_heard(garden: Garden) -> None:
    garden.submit("early", {"STEPS": 1000}, metadata={"annotations": {"model-garden.dev/stop": "save"}})
    assert garden.until("early", "Succeeded")["progress"]["step"] < 1000


def test_a_finished_job_is_kept_until_its_ttl_and_never_run_again(garden: Garden) -> None:
    garden.submit("brief", {"STEPS": 1}, ttlSecondsAfterFinished=1)
    before = garden.until("brief", "Succeeded")
    garden.cluster.until(lambda: garden.job("brief") is None, "the TTL deletes the Job")
    garden.patch("trainingjob", "brief", {"metadata": {"labels": {"touched": "yes"}}})
    garden.submit("later", {"STEPS": 1})  # by the time it is done, the touch has been seen too
    garden.until("later", "Succeeded")
    assert garden.job("brief") is None
    assert garden.status("brief") == before


def test_a_ttl_given_after_the_end_is_applied(garden: Garden) -> None:
    garden.submit("kept", {"STEPS": 1})
    garden.until("kept", "Succeeded")
    assert garden.job("kept")
    garden.patch("trainingjob", "kept", {"spec": {"ttlSecondsAfterFinished": 0}})
    garden.cluster.until(lambda: garden.job("kept") is None, "the new TTL deletes the Job")


def test_cancel_ends_the_pod_and_nothing_comes_back(garden: Garden) -> None:
    garden.submit("unwanted", {"STEPS": 1000})
    garden.until_step("unwanted", 1)
    garden.annotate("unwanted", "model-garden.dev/cancel=true")
    status = garden.until("unwanted", "Cancelled")
    assert condition(status, "Finished")["reason"] == "Cancelled"
    assert status["attempts"][0]["reason"] == "Stopped"
    assert status["progress"]["step"] < 1000
    assert garden.job("unwanted") is None
    assert garden.pods("unwanted") == []


def test_figures_arrive_while_it_trains(garden: Garden) -> None:
    garden.submit("live", {"STEPS": 500, "STEP_SECONDS": 0.1})
    status = garden.until_step("live", 3)
    assert status["phase"] == "Running"
    assert condition(status, "Running")["status"] == "True"
    assert status["history"][-1]["step"] == status["progress"]["step"]
    assert garden.until_step("live", status["progress"]["step"] + 3)["phase"] == "Running"
    metrics = urllib.request.urlopen(f"http://127.0.0.1:{garden.port}/metrics", timeout=5).read().decode()
    assert 'model_garden_job_step{name="live",namespace="garden"}' in metrics
    assert 'model_garden_jobs{phase="Running"}' in metrics
    assert garden.health()["leads"] is True
    garden.kubectl("delete", "trainingjob", "live")
    garden.cluster.until(lambda: not garden.pods("live"), "the pod goes with its TrainingJob")


def _with(events: list[tuple[str, str]], reason: str) -> list[tuple[str, str]] | None:
    return events if any(found == reason for found, _ in events) else None
