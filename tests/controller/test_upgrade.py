"""A job that an operator of another version made.

Its Job and what its trainer prints were recorded before field names of the status changed (`effective`,
`measuredBy: trainer`) and before `selectiveLoss: off` and `prepare` left the spec.
"""

import json
from pathlib import Path

import pytest

from tests.cluster import TestCluster
from tests.controller.garden import Garden

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


def test_a_job_of_an_earlier_operator_is_brought_to_its_end(crd: TestCluster, tmp_path: Path) -> None:
    garden = Garden(crd, "upgraded", tmp_path)
    garden.submit("old")
    job = json.loads(RECORDED.read_text())
    job["metadata"]["namespace"] = garden.namespace
    job["metadata"]["ownerReferences"][0]["uid"] = garden.get("trainingjob", "old")["metadata"]["uid"]
    job["spec"]["template"]["spec"]["containers"][0]["command"] = ["python", "-c", TRAINER]
    crd.apply(job)
    status = {"phase": "Running", "jobName": "old-train", "effective": {"backend": "transformers"}}
    garden.kubectl(
        "patch", "trainingjob", "old", "--subresource=status", "--type=merge", "-p", json.dumps({"status": status})
    )
    uid = job_uid(garden)
    garden.start_operator()
    found = garden.until("old", "Succeeded")
    assert job_uid(garden) == uid, "the Job was made again"
    assert found["progress"]["step"] == STEPS and len(found["attempts"]) == 1
    assert found["output"]["path"] == "models/old" and found["output"]["verified"] is True
    assert found["effectiveSpec"]["backend"] == "transformers"
    garden.stop_operator()


def job_uid(garden: Garden) -> str:
    job = garden.job("old")
    assert job
    uid: str = job["metadata"]["uid"]
    return uid
