"""What a TrainingJob says when it cannot go on: the reason, the words, the fix; nothing hangs or retries in vain."""

import pytest

from tests.controller.garden import Garden, condition

pytestmark = pytest.mark.cluster


def test_an_exit_code_that_retrying_cannot_help_fails_the_job_at_once(garden: Garden) -> None:
    garden.submit("bad-data", {"STEPS": 5, "EXIT_CODE": 3, "FAIL_AT_STEP": 2, "STEP_SECONDS": 0.05})
    status = garden.until("bad-data", "Failed")
    assert status["failure"]["reason"] == "InvalidDataset"
    assert status["failure"]["message"] == "it was told to fail"
    assert status["failure"]["exitCode"] == 3
    assert status["failure"]["logTail"] == ["a line for people", "Traceback: scripted failure"]
    assert [a["exitCode"] for a in status["attempts"]] == [3]
    assert status["progress"]["step"] == 2
    assert len(garden.pods("bad-data")) == 1
    truths = {c["type"] for c in status["conditions"] if c["status"] == "True"}
    assert truths == {"Failed", "Finished", "Stalled"}


def test_other_exit_codes_are_retried_up_to_the_limit(garden: Garden) -> None:
    env = {"STEPS": 50, "STEP_SECONDS": 0.02, "EXIT_CODE": 1, "FAIL_AT_STEP": 7}
    garden.submit("flaky", env, backoffLimit=0)
    status = garden.until("flaky", "Failed")
    assert status["failure"]["reason"] == "TrainerError"
    assert "backoffLimit is 0" in status["failure"]["message"]
    assert status["lastCheckpointStep"] == 5


def test_a_hub_that_does_not_answer_is_retried_and_then_named(garden: Garden) -> None:
    env = {"STEPS": 9, "STEP_SECONDS": 0.02, "EXIT_CODE": 9, "FAIL_AT_STEP": 1}
    garden.submit("offline", env, backoffLimit=1)
    status = garden.until("offline", "Failed")
    assert status["failure"]["reason"] == "HubUnreachable"
    assert [attempt["exitCode"] for attempt in status["attempts"]] == [9, 9]


def test_a_trainer_that_dies_without_a_word_is_explained(garden: Garden) -> None:
    garden.submit("silent", {"STEPS": 2, "EXIT_CODE": 9, "SILENT": 1}, backoffLimit=0)
    status = garden.until("silent", "Failed")
    assert "exit code 9 and reported no outcome" in status["failure"]["message"]
    assert status["failure"]["logTail"][-1] == "Traceback: scripted failure"


def test_a_job_waits_for_a_gpu_in_plain_words(garden: Garden) -> None:
    garden.submit(
        "greedy",
        {"STEPS": 1},
        resources={"limits": {"nvidia.com/gpu": 64}, "requests": {"cpu": "10m", "memory": "16Mi"}},
    )
    status = garden.until("greedy", "Pending", reason="NoFreeGPU")
    running = condition(status, "Running")
    assert running["message"].startswith("waiting for a GPU: no node has")
    assert "Insufficient nvidia.com/gpu" in running["message"]
    assert condition(status, "Queued")["status"] == "False"
    assert condition(status, "Stalled")["status"] == "False"
    garden.kubectl("delete", "trainingjob", "greedy")


def test_a_missing_claim_is_named_and_the_job_fails_when_it_stays_away(garden: Garden) -> None:
    garden.submit("homeless", {"STEPS": 1}, storage={"dataClaim": "no-such-claim"})
    status = garden.until("homeless", "Failed")
    assert status["failure"]["reason"] == "ClaimNotFound"
    assert "'no-such-claim' does not exist" in status["failure"]["message"]
    assert "spec.storage" in status["failure"]["message"]
    garden.cluster.until(lambda: garden.job("homeless") is None, "its Job is taken away")


def test_an_image_that_is_not_there_is_named_and_holds_its_node_no_longer(garden: Garden) -> None:
    garden.submit("unseen", {"STEPS": 1}, image="registry.invalid/x:1")
    status = garden.until("unseen", "Failed")
    assert status["failure"]["reason"] == "ImageNotPullable"
    assert "registry.invalid/x:1" in status["failure"]["message"]
    assert "spec.image" in status["failure"]["message"]
    garden.cluster.until(lambda: garden.job("unseen") is None, "its Job is taken away")


def test_a_wish_in_words_that_mean_nothing_is_answered(garden: Garden) -> None:
    garden.submit("misled", {"STEPS": 2}, metadata={"annotations": {"model-garden.dev/stop": "true"}})
    garden.until("misled", "Succeeded")
    told = garden.cluster.until(lambda: [why for what, why in garden.events("misled") if what == "InvalidAnnotation"])
    assert told == ["the annotation model-garden.dev/stop=true has no effect; the value that has one is 'save'"]


def test_a_queued_job_that_is_suspended_gets_no_job_until_it_is_not(garden: Garden) -> None:
    """Kueue would admit it all the same."""
    queue = {"labels": {"kueue.x-k8s.io/queue-name": "gpus"}}
    garden.submit("later-on", {"STEPS": 1}, metadata=queue, suspend=True)
    status = garden.until("later-on", "Suspended")
    assert "jobName" not in status
    assert garden.job("later-on") is None
    garden.patch("trainingjob", "later-on", {"spec": {"suspend": False}})
    garden.until("later-on", "Succeeded")


def test_a_claim_that_comes_late_is_waited_for(garden: Garden) -> None:
    garden.submit("patient", {"STEPS": 1}, storage={"dataClaim": "late-claim"})
    status = garden.cluster.until(lambda: _stalled(garden.status("patient")))
    assert condition(status, "Stalled")["reason"] == "ClaimNotFound"
    claim = garden.get("pvc", "garden-data")
    keep = {"accessModes": claim["spec"]["accessModes"], "resources": claim["spec"]["resources"]}
    metadata = {"name": "late-claim", "namespace": garden.namespace}
    garden.cluster.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": keep})
    garden.until("patient", "Succeeded")


def test_an_exhausted_quota_is_told(garden: Garden) -> None:
    scarce = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "scarce", "namespace": garden.namespace},
    }
    garden.cluster.apply(scarce | {"spec": {"hard": {"requests.memory": "1Gi"}}})
    try:
        resources = {"limits": {"nvidia.com/gpu": 0}, "requests": {"cpu": "10m", "memory": "2Gi"}}
        garden.submit("frugal", {"STEPS": 1}, resources=resources)
        status = garden.until("frugal", "Pending", reason="QuotaExceeded")
        assert "scarce" in condition(status, "Running")["message"]
    finally:
        garden.kubectl("delete", "resourcequota", "scarce")
        garden.kubectl("delete", "trainingjob", "frugal")


def test_a_spec_that_cannot_be_run_is_invalid_and_makes_no_job(garden: Garden) -> None:
    garden.submit("bossy", {"MODEL_GARDEN_CONFIG": "{}"})
    status = garden.until("bossy", "Failed")
    assert status["failure"]["reason"] == "InvalidSpec"
    assert status["failure"]["message"].startswith("spec.podTemplate.env: MODEL_GARDEN_CONFIG is the operator's own")
    assert condition(status, "Stalled")["reason"] == "InvalidSpec"
    assert garden.job("bossy") is None


def test_what_kubernetes_refuses_in_the_pod_is_invalid_too(garden: Garden) -> None:
    garden.submit("odd", podTemplate={"labels": {"not a label!": "x"}})
    status = garden.until("odd", "Failed")
    assert status["failure"]["reason"] == "InvalidSpec"
    assert "spec.template.labels" in status["failure"]["message"]
    assert garden.job("odd") is None


def test_a_job_of_somebody_else_is_not_touched(garden: Garden) -> None:
    container = {"name": "c", "image": "i", "command": ["true"]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    metadata = {"name": "taken-train", "namespace": garden.namespace}
    garden.cluster.apply(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template}}
    )
    garden.submit("taken", {"STEPS": 1})
    status = garden.cluster.until(lambda: _stalled(garden.status("taken")))
    assert condition(status, "Stalled")["reason"] == "JobNameTaken"
    assert "has no owner" in condition(status, "Stalled")["message"]
    garden.kubectl("delete", "job", "taken-train")
    garden.until("taken", "Succeeded")


def _stalled(status: dict) -> dict | None:
    return status if status and condition(status, "Stalled")["status"] == "True" else None
