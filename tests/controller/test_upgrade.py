"""A job that an operator of another version made.

Its Job and what its trainer prints were recorded before field names of the status changed (`effective`,
`measuredBy: trainer`) and before `selectiveLoss: off` and `prepare` left the spec.
"""

import json
from pathlib import Path

import pytest

from tests.cluster import TestCluster
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


def job_uid(harness: OperatorHarness) -> str:
    job = harness.job("old")
    assert job
    uid: str = job["metadata"]["uid"]
    return uid
