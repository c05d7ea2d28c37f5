"""A job that an operator of another version made.

Its Job and what its trainer prints were recorded before field names of the status changed (`effective`,
`measuredBy: trainer`) and before `selectiveLoss: off` and `prepare` left the spec.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster import CRD, Object, TestCluster
from tests.controller.harness import OperatorHarness

pytestmark = pytest.mark.cluster

RECORDED = Path(__file__).parent / "recorded" / "job.json"
STEPS = 40
TRAINER = f"""
import json, pathlib, time
def tell(**event): print(json.dumps(event), flush=True)
tell(event="stage", stage="dataset")
tell(event="dataset", dataset={{"rows": 10, "images": 10, "measuredBy": "trainer"}})
tell(event="stage", stage="training")
for step in range(1, {STEPS} + 1):
    progress = {{"step": step, "totalSteps": {STEPS}, "percent": 100 * step / {STEPS}, "loss": 4 / step}}
    tell(event="progress", progress=progress)
    time.sleep(0.1)
tell(event="checkpoint", step={STEPS})
output = {{"path": "models/old", "adapterPath": "models/old", "trainedSteps": {STEPS}, "verified": True}}
outcome = {{"result": "Succeeded", "exitCode": 0, "output": output, "progress": progress, "effective": {{"x": "y"}}}}
pathlib.Path("termination-log").write_text(json.dumps(outcome))
"""


def test_a_job_of_an_earlier_operator_is_completed(crd: TestCluster, tmp_path: Path) -> None:
    harness = OperatorHarness(crd, "upgraded", tmp_path)
    harness.submit("old")
    job = json.loads(RECORDED.read_text())
    job["metadata"]["namespace"] = harness.namespace
    job["metadata"]["ownerReferences"][0]["uid"] = harness.get("trainingjob", "old")["metadata"]["uid"]
    job["spec"]["template"]["spec"]["containers"][0]["command"] = ["python", "-c", TRAINER]
    crd.apply(job)
    status = {"phase": "Running", "jobName": "old-train", "effective": {"backend": "transformers"}}
    harness.kubectl(
        "patch", "trainingjob", "old", "--subresource=status", "--type=merge", "-p", json.dumps({"status": status})
    )
    uid = job_uid(harness)
    harness.start_operator()
    found = harness.until("old", "Succeeded")
    assert job_uid(harness) == uid, "the Job was made again"
    assert found["progress"]["step"] == STEPS and len(found["attempts"]) == 1
    assert found["output"]["path"] == "models/old" and found["output"]["verified"] is True
    assert found["effectiveSpec"]["backend"] == "transformers"
    harness.stop_operator()


def test_a_job_that_trains_when_a_new_rule_refuses_it_goes_on_and_can_be_stopped(
    crd: TestCluster, tmp_path: Path
) -> None:
    """The rule is that evalSteps needs validation rows; the API server applies it to new jobs alone."""
    harness = OperatorHarness(crd, "ruled", tmp_path)
    harness.start_operator()
    for name, more in (("trains", {}), ("prepares", PREPARES)):
        harness.submit(name, {"STEPS": 10_000, "PREFLIGHT_SECONDS": 1000}, **more)
    harness.until_step("trains", 3)
    harness.until("prepares", "Preparing")
    harness.stop_operator()
    with without_rules(crd):
        for name in ("trains", "prepares"):
            crd.until(lambda name=name: evaluate(harness, name), "the CRD without rules is served")
            effective = {"status": {"effectiveSpec": {"hyperparameters": {"evalSteps": 5}}}}
            harness.kubectl(
                "patch", "trainingjob", name, "--subresource=status", "--type=merge", "-p", json.dumps(effective)
            )
    harness.start_operator()
    harness.until_step("trains", harness.status("trains")["progress"]["step"] + 5)
    harness.annotate("trains", "model-garden.dev/stop=save")
    status = harness.until("trains", "Succeeded")
    assert len(status["attempts"]) == 1 and status["effectiveSpec"]["hyperparameters"]["evalSteps"] == 5
    assert harness.status("prepares")["phase"] == "Preparing"
    harness.annotate("prepares", "model-garden.dev/cancel=true")
    harness.until("prepares", "Cancelled")
    harness.stop_operator()


PREPARES: Object = {"resources": {"limits": {"nvidia.com/gpu": 1}, "requests": {"cpu": "10m", "memory": "16Mi"}}}


@contextmanager
def without_rules(cluster: TestCluster) -> Iterator[None]:
    """The CRD of an earlier version, which had none."""
    rules = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations"
    change = json.dumps([{"op": "remove", "path": rules}])
    cluster.kubectl("patch", "crd", "trainingjobs.model-garden.dev", "--type=json", "-p", change)
    try:
        yield
    finally:
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))


def evaluate(harness: OperatorHarness, name: str) -> bool:
    """Set ``evalSteps`` without validation rows; False while the API server refuses that."""
    change = json.dumps({"spec": {"hyperparameters": {"evalSteps": 5}}})
    arguments = ("patch", "trainingjob", name, "--type=merge", "-p", change, "-n", harness.namespace)
    return harness.cluster.try_kubectl(*arguments).returncode == 0


def job_uid(harness: OperatorHarness) -> str:
    job = harness.job("old")
    assert job
    uid: str = job["metadata"]["uid"]
    return uid
