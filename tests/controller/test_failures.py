"""A TrainingJob that cannot continue: its reason, message and fix, and that nothing hangs or retries without use."""

from pathlib import Path

import pytest

from tests.cluster import TestCluster
from tests.controller.harness import OperatorHarness, claim, condition

pytestmark = pytest.mark.cluster


def test_an_exit_code_that_retrying_cannot_help_fails_the_job_at_once(harness: OperatorHarness) -> None:
    harness.submit("bad-data", {"STEPS": 5, "EXIT_CODE": 3, "FAIL_AT_STEP": 2, "STEP_SECONDS": 0.05})
    status = harness.until("bad-data", "Failed")
    assert status["failure"]["reason"] == "InvalidDataset"
    assert status["failure"]["message"] == "it was asked to fail"
    assert status["failure"]["exitCode"] == 3
    assert status["failure"]["logTail"] == ["a line for people", "Traceback: scripted failure"]
    assert [a["exitCode"] for a in status["attempts"]] == [3]
    assert status["progress"]["step"] == 2
    assert len(harness.pods("bad-data")) == 1
    truths = {c["type"] for c in status["conditions"] if c["status"] == "True"}
    assert truths == {"Failed", "Finished", "Stalled"}


def test_other_exit_codes_are_retried_up_to_the_limit(harness: OperatorHarness) -> None:
    env = {"STEPS": 50, "STEP_SECONDS": 0.02, "EXIT_CODE": 1, "FAIL_AT_STEP": 7}
    harness.submit("flaky", env, backoffLimit=0)
    status = harness.until("flaky", "Failed")
    assert status["failure"]["reason"] == "TrainerError"
    assert "backoffLimit is 0" in status["failure"]["message"]
    assert status["lastCheckpointStep"] == 5


def test_a_hub_that_does_not_answer_is_retried_and_then_named(harness: OperatorHarness) -> None:
    env = {"STEPS": 9, "STEP_SECONDS": 0.02, "EXIT_CODE": 9, "FAIL_AT_STEP": 1}
    harness.submit("offline", env, backoffLimit=1)
    status = harness.until("offline", "Failed")
    assert status["failure"]["reason"] == "HubUnreachable"
    assert [attempt["exitCode"] for attempt in status["attempts"]] == [9, 9]


def test_a_trainer_that_dies_without_an_outcome_is_explained(harness: OperatorHarness) -> None:
    harness.submit("silent", {"STEPS": 2, "EXIT_CODE": 9, "SILENT": 1}, backoffLimit=0)
    status = harness.until("silent", "Failed")
    assert "exit code 9 and left no termination message" in status["failure"]["message"]
    assert status["failure"]["logTail"][-1] == "Traceback: scripted failure"


def test_a_job_that_waits_for_a_gpu_names_it(harness: OperatorHarness) -> None:
    harness.submit(
        "greedy",
        {"STEPS": 1},
        resources={"limits": {"nvidia.com/gpu": 64}, "requests": {"cpu": "10m", "memory": "16Mi"}},
    )
    status = harness.until("greedy", "Pending", reason="NoFreeGPU")
    running = condition(status, "Running")
    assert running["message"].startswith("waiting for a GPU: no node has")
    assert "Insufficient nvidia.com/gpu" in running["message"]
    assert condition(status, "Queued")["status"] == "False"
    assert condition(status, "Stalled")["status"] == "False"
    harness.kubectl("delete", "trainingjob", "greedy")


def test_a_missing_claim_is_named_and_the_job_fails_if_nobody_creates_it(harness: OperatorHarness) -> None:
    harness.submit("homeless", {"STEPS": 1}, storage={"dataClaim": "no-such-claim"})
    status = harness.until("homeless", "Failed")
    assert status["failure"]["reason"] == "ClaimNotFound"
    assert "'no-such-claim' does not exist" in status["failure"]["message"]
    assert "spec.storage" in status["failure"]["message"]
    harness.cluster.until(lambda: harness.job("homeless") is None, "its Job is taken away")


def test_a_missing_image_is_named_and_its_job_ends(harness: OperatorHarness) -> None:
    harness.submit("unseen", {"STEPS": 1}, image="registry.invalid/x:1")
    status = harness.until("unseen", "Failed")
    assert status["failure"]["reason"] == "ImageNotPullable"
    assert "registry.invalid/x:1" in status["failure"]["message"]
    assert "spec.image" in status["failure"]["message"]
    harness.cluster.until(lambda: harness.job("unseen") is None, "its Job is taken away")


def test_an_annotation_without_effect_is_reported(harness: OperatorHarness) -> None:
    harness.submit("misled", {"STEPS": 2}, metadata={"annotations": {"model-garden.dev/stop": "true"}})
    harness.until("misled", "Succeeded")
    warnings = harness.cluster.until(
        lambda: [why for what, why in harness.events("misled") if what == "InvalidAnnotation"]
    )
    assert warnings == ["the annotation model-garden.dev/stop=true has no effect; set it to 'save'"]


def test_a_queued_job_that_is_suspended_gets_no_job_until_it_is_not(harness: OperatorHarness) -> None:
    """Kueue would admit it all the same."""
    queue = {"labels": {"kueue.x-k8s.io/queue-name": "gpus"}}
    harness.submit("later-on", {"STEPS": 1}, metadata=queue, suspend=True)
    status = harness.until("later-on", "Suspended")
    assert "jobName" not in status
    assert harness.job("later-on") is None
    harness.patch("trainingjob", "later-on", {"spec": {"suspend": False}})
    harness.until("later-on", "Queued", reason="KueueNotInstalled")
    assert harness.get("job", "later-on-train")["spec"]["suspend"] is True


def test_a_job_waits_for_a_claim_that_is_created_later(crd: TestCluster, tmp_path: Path) -> None:
    patient = OperatorHarness(crd, "patient", tmp_path)
    patient.start_operator(MISSING_SECONDS="60")
    patient.submit("patient", {"STEPS": 1}, storage={"dataClaim": "late-claim"})
    status = crd.until(lambda: _stalled(patient.status("patient")))
    assert condition(status, "Stalled")["reason"] == "ClaimNotFound"
    crd.apply(claim("late-claim", patient.namespace))
    patient.until("patient", "Succeeded")
    patient.stop_operator()


def test_an_exhausted_quota_is_reported(harness: OperatorHarness) -> None:
    scarce = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "scarce", "namespace": harness.namespace},
    }
    harness.cluster.apply(scarce | {"spec": {"hard": {"requests.memory": "1Gi"}}})
    try:
        quota = lambda: harness.get("resourcequota", "scarce")  # noqa: E731
        harness.cluster.until(lambda: "hard" in quota().get("status", {}), "the quota acts")
        resources = {"limits": {"nvidia.com/gpu": 0}, "requests": {"cpu": "10m", "memory": "2Gi"}}
        harness.submit("frugal", {"STEPS": 1}, resources=resources)
        status = harness.until("frugal", "Pending", reason="QuotaExceeded")
        assert "scarce" in condition(status, "Running")["message"]
    finally:
        harness.kubectl("delete", "resourcequota", "scarce")
        harness.kubectl("delete", "trainingjob", "frugal")


def test_a_spec_that_cannot_be_run_is_invalid_and_makes_no_job(harness: OperatorHarness) -> None:
    harness.submit("bossy", {"MODEL_GARDEN_CONFIG": "{}"})
    status = harness.until("bossy", "Failed")
    assert status["failure"]["reason"] == "InvalidSpec"
    assert status["failure"]["message"].startswith("spec.podTemplate.env: MODEL_GARDEN_CONFIG is set by the operator")
    assert condition(status, "Stalled")["reason"] == "InvalidSpec"
    assert harness.job("bossy") is None


def test_what_kubernetes_refuses_in_the_pod_is_invalid_too(harness: OperatorHarness) -> None:
    harness.submit("odd", podTemplate={"labels": {"not a label!": "x"}})
    status = harness.until("odd", "Failed")
    assert status["failure"]["reason"] == "InvalidSpec"
    assert "spec.template.labels" in status["failure"]["message"]
    assert harness.job("odd") is None


def test_a_policy_that_refuses_the_job_is_told_and_the_job_runs_once_it_is_gone(harness: OperatorHarness) -> None:
    group, name = "admissionregistration.k8s.io/v1", {"name": "no-policed-jobs"}
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    validation = {"expression": "!object.metadata.name.startsWith('policed')", "message": "not in office hours"}
    policy = {"matchConstraints": {"resourceRules": [rule]}, "validations": [validation]}
    binding = {"policyName": name["name"], "validationActions": ["Deny"]}
    harness.cluster.apply(
        {"apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": name, "spec": policy},
        {"apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding", "metadata": name, "spec": binding},
    )
    attempt = ("create", "job", "policed", "--image=i", "--dry-run=server", "-n", harness.namespace)
    try:
        harness.cluster.until(lambda: "office hours" in harness.cluster.try_kubectl(*attempt).stderr, "the policy acts")
        harness.submit("policed", {"STEPS": 1})
        status = harness.until("policed", "Pending", reason="JobRefused")
        assert "not in office hours" in condition(status, "Stalled")["message"]
    finally:
        harness.kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", name["name"])
    harness.until("policed", "Succeeded")


def test_a_job_of_another_owner_is_not_changed(harness: OperatorHarness) -> None:
    container = {"name": "c", "image": "i", "command": ["true"]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    metadata = {"name": "taken-train", "namespace": harness.namespace}
    harness.cluster.apply(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template}}
    )
    harness.submit("taken", {"STEPS": 1})
    status = harness.cluster.until(lambda: _stalled(harness.status("taken")))
    assert condition(status, "Stalled")["reason"] == "JobNameTaken"
    assert "has no owner" in condition(status, "Stalled")["message"]
    harness.kubectl("delete", "job", "taken-train")
    harness.until("taken", "Succeeded")


def _stalled(status: dict) -> dict | None:
    return status if status and condition(status, "Stalled")["status"] == "True" else None
