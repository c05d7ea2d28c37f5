"""A GPU is held only to train: what a job does while the cluster's one GPU is taken by another pod."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from demo.steps import ROOT
from model_garden.contract.names import API_VERSION, KIND
from tests.e2e.conftest import Demo

pytestmark = [pytest.mark.cluster, pytest.mark.train]


def job(name: str, rows: str) -> dict[str, Any]:
    """A TrainingJob for a GPU, on settings that a machine whose GPU is only claimed can train with."""
    spec = {
        "isVision": True,
        "baseModel": "./models/tiny-qwen2.5-vl",
        "datasetPath": f"./data/{rows}",
        "backend": "transformers",
        "quantization": "none",
        "hyperparameters": {"maxSteps": 3, "optim": "adamw_torch"},
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"nvidia.com/gpu": 1}},
    }
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def taken(demo: Demo) -> Iterator[str]:
    """A pod that has the cluster's one GPU until it is deleted."""
    container = {
        "name": "holder",
        "image": "holder",
        "command": ["sleep", "3600"],
        "resources": {"requests": {"cpu": "10m"}, "limits": {"nvidia.com/gpu": 1}},
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    demo.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "holder"}, "spec": spec})
    demo.cluster.until(lambda: holds(demo), "the holder has the GPU")
    yield "holder"
    demo.cluster.kubectl("delete", "pod", "holder", "--ignore-not-found", "--wait")


def test_a_broken_row_fails_a_job_while_the_gpu_is_still_taken(demo: Demo, taken: str) -> None:
    broken_rows(demo)
    demo.cluster.apply(job("broken", "broken.jsonl"))
    failure = until(demo, "broken", "Failed")["failure"]
    assert failure["reason"] == "InvalidDataset"
    assert "broken.jsonl row 3" in failure["message"]
    assert holds(demo)
    assert not demo.cluster.get("job", "broken-train")


def test_a_good_job_is_prepared_waits_in_plain_words_and_trains_when_the_gpu_is_free(demo: Demo, taken: str) -> None:
    demo.cluster.apply(job("good", "vision_test_dataset.jsonl"))
    found = until(demo, "good", "Pending", "NoFreeGPU")
    assert "waiting for a GPU: no node has enough free nvidia.com/gpu" in running(found)["message"]
    assert found["dataset"]["measuredBy"] == "Preflight"
    assert found["dataset"]["rows"] == 10
    assert found["estimate"]["totalGiB"] > 0
    demo.cluster.kubectl("delete", "pod", taken, "--wait")
    found = until(demo, "good", "Succeeded")
    assert found["progress"]["step"] == 3
    assert found["output"]["verified"] is True
    told = [event["reason"] for event in demo.cluster.get("events") if event["involvedObject"]["name"] == "good"]
    assert list(dict.fromkeys(told)) == ["Preparing", "Pending", "Starting", "Running", "Succeeded"]


def until(demo: Demo, name: str, phase: str, reason: str = "") -> dict[str, Any]:
    """The job's status once it has a phase, and a reason."""
    seen: list[Any] = [None]

    def reached() -> Any:
        seen[0] = found = demo.cluster.get("trainingjob", name).get("status", {})
        ended = found.get("phase") in ("Succeeded", "Failed")
        assert not ended or found["phase"] == phase, json.dumps(found, indent=1)
        return found.get("phase") == phase and (not reason or running(found)["reason"] == reason)

    demo.cluster.until(reached, f"{name}: {phase} {reason}", 180)
    found: dict[str, Any] = seen[0]
    return found


def running(status: dict[str, Any]) -> dict[str, Any]:
    """The condition that says why a job is where it is."""
    return next(c for c in status["conditions"] if c["type"] == "Running")


def holds(demo: Demo) -> bool:
    """Whether the holder runs, and so has the GPU."""
    return bool(demo.cluster.get("pod", "holder")["status"].get("phase") == "Running")


def broken_rows(demo: Demo) -> None:
    """A data set in the data claim whose third row has no answer."""
    (volume,) = [path for path in (demo.cluster.directory / "volumes").iterdir() if "model-garden-data" in path.name]
    rows = (ROOT / "data/vision_test_dataset.jsonl").read_text().splitlines()
    row = json.loads(rows[2])
    del row["response"]
    (volume / "broken.jsonl").write_text("\n".join([*rows[:2], json.dumps(row), *rows[3:]]) + "\n")
