"""Data from a bucket and the model back into it, on a cluster whose pods get the credentials from a Secret."""

from __future__ import annotations

import json
from typing import Any

import pytest

from demo.steps import ROOT
from tests.e2e.conftest import Demo
from tests.e2e.test_preflight import job, until
from tests.remote.conftest import s3_endpoint
from tests.remote.servers import ACCESS, SECRET, STRANGER, STRANGER_SECRET, Bucket

__all__ = ["s3_endpoint"]

pytestmark = [pytest.mark.cluster, pytest.mark.train]


@pytest.fixture
def stored(demo: Demo, s3_endpoint: tuple[str, Any]) -> Bucket:
    """A bucket with a data set, and Secrets of its owner and of a stranger."""
    url, folder = s3_endpoint
    (folder / "receipts").mkdir()
    bucket = Bucket("receipts", folder / "receipts", url)
    bucket.put("sets/train.jsonl", (ROOT / "data/vision_test_dataset.jsonl").read_bytes())
    bucket.upload(ROOT / "data/vision_test_dataset_images", "sets/vision_test_dataset_images")
    for name, keys in (("owner", (ACCESS, SECRET)), ("stranger", (STRANGER, STRANGER_SECRET))):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
        demo.cluster.apply(secret | {"stringData": bucket.environment(*keys)})
    return bucket


def test_a_job_reads_a_bucket_and_writes_its_model_there(demo: Demo, stored: Bucket) -> None:
    demo.cluster.apply(remote(stored, "from-bucket", "owner"))
    found = until(demo, "from-bucket", "Succeeded")
    assert set(found["fetched"]) == {"datasetPath"}
    assert found["dataset"]["images"] == 10
    assert found["output"]["remoteUrl"] == "s3://receipts/models/from-bucket/"
    assert json.loads((stored.folder / "models/from-bucket/training_config.json").read_text())["name"] == "from-bucket"

    demo.cluster.apply(remote(stored, "not-allowed", "stranger", datasetPath="./data/vision_test_dataset.jsonl"))
    failure = until(demo, "not-allowed", "Failed")["failure"]
    assert failure["reason"] == "OutputNotWritable"
    assert "spec.pushTo: the write test failed: s3://receipts/models/not-allowed/" in failure["message"]
    assert not demo.cluster.get("job", "not-allowed-train")  # no GPU was requested

    told = demo.cluster.kubectl("get", "trainingjobs,jobs,pods,events", "-o", "json")
    for pod in demo.cluster.get("pods"):
        if pod["metadata"].get("labels", {}).get("model-garden.dev/training-job") in ("from-bucket", "not-allowed"):
            told += demo.cluster.kubectl("logs", pod["metadata"]["name"])
    assert not [secret for secret in (ACCESS, SECRET, STRANGER, STRANGER_SECRET) if secret in told]


def remote(bucket: Bucket, name: str, secret: str, **changes: Any) -> dict[str, Any]:
    """A job for a GPU that reads a bucket and writes to it."""
    made = job(name, "vision_test_dataset.jsonl")
    made["spec"] |= {
        "datasetPath": bucket.url("sets/train.jsonl"),
        "pushTo": bucket.url(f"models/{name}"),
        "storage": {"credentialsSecret": secret, "endpointUrl": bucket.endpoint},
    } | changes
    return made
