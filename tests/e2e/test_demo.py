"""The whole idea, with real models: the demo, and each way in which a run is interrupted and comes out right."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from demo.steps import NAMESPACE
from model_garden.contract.names import API_VERSION, KIND
from tests.e2e.conftest import Demo

pytestmark = [pytest.mark.cluster, pytest.mark.train]

LONG = 200
ENDLESS = 5000
CHECKPOINT_EVERY = 10


def job(name: str, vision: bool, **hyperparameters: Any) -> dict[str, Any]:
    """A TrainingJob on the demo's tiny models, long enough to be interrupted."""
    model, rows = ("tiny-qwen2.5-vl", "vision_test_dataset") if vision else ("tiny-qwen2", "text_test_dataset")
    spec = {
        "isVision": vision,
        "baseModel": f"./models/{model}",
        "datasetPath": f"./data/{rows}.jsonl",
        "hyperparameters": {
            "maxSteps": LONG,
            "saveSteps": CHECKPOINT_EVERY,
            "batchSize": 1,
            "gradientAccumulationSteps": 1,
            **hyperparameters,
        },
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"nvidia.com/gpu": 0}},
    }
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}


def status(demo: Demo, name: str) -> dict[str, Any]:
    found: dict[str, Any] = demo.cluster.get("trainingjob", name).get("status", {})
    return found


def wait(demo: Demo, name: str, what: Any, seconds: float = 180) -> dict[str, Any]:
    """The status of the job once ``what`` holds of it."""

    def holds() -> dict[str, Any] | None:
        found = status(demo, name)
        assert found.get("phase") != "Failed" or what(found), found.get("failure")
        return found if what(found) else None

    found: dict[str, Any] = demo.cluster.until(holds, f"{name}: {status(demo, name)}", seconds)
    return found


def checkpointed(found: dict[str, Any]) -> bool:
    return bool(found.get("lastCheckpointStep"))


def succeeded(found: dict[str, Any]) -> bool:
    return found.get("phase") == "Succeeded"


def ended(found: dict[str, Any]) -> bool:
    """Whether the only attempt has ended, and the status says so."""
    return "endTime" in found["attempts"][0]


def pods(demo: Demo, name: str) -> list[str]:
    return [
        pod["metadata"]["name"] for pod in demo.cluster.get("pods", selector=f"model-garden.dev/training-job={name}")
    ]


def test_the_demo_ends_with_a_model_that_loads_back(demo: Demo) -> None:
    found = status(demo, "vision")
    assert found["progress"]["step"] == found["progress"]["totalSteps"] == 300
    samples = found["output"]["samples"]["train"]
    assert samples["rows"] == 10
    assert samples["exactMatchBefore"] <= 0.1 and samples["exactMatchAfter"] >= 0.9
    assert len(found["history"]) >= 10
    assert found["history"][-1]["loss"] < found["history"][0]["loss"]
    assert found["output"]["path"] == "./models/vision"
    assert "mean loss of 10 answers" in demo.printed
    address = demo.printed.partition("The page of the job: ")[2].split()[0]
    page = urllib.request.urlopen(address, timeout=60).read().decode()
    assert "Succeeded" in page and "./models/vision" in page


def test_a_text_model_goes_the_same_way(demo: Demo) -> None:
    printed = demo.run("--example", "text")
    assert "mean loss of 16 answers" in printed
    assert status(demo, "text")["output"]["verified"] is True


def test_a_killed_operator_and_a_killed_pod_cost_no_step_but_those_since_the_checkpoint(prompt_demo: Demo) -> None:
    demo = prompt_demo
    demo.cluster.apply(job("killed", vision=True))
    wait(demo, "killed", checkpointed)
    operator = ("-n", NAMESPACE, "-l", "app.kubernetes.io/component=operator")
    demo.cluster.kubectl("delete", "pod", *operator, "--grace-period=0", "--force")
    (first,) = pods(demo, "killed")
    demo.cluster.kubectl("delete", "pod", first, "--grace-period=0", "--force")
    checkpoint = max(int(path.name.rsplit("-", 1)[-1]) for path in checkpoints(demo, "killed"))
    found = wait(demo, "killed", succeeded)
    before, after = found["attempts"]
    assert before["pod"] == first
    assert after["pod"] != first
    # The process may write one more checkpoint between the deletion and its end.
    assert checkpoint <= after["fromStep"]
    assert before["toStep"] - after["fromStep"] <= CHECKPOINT_EVERY
    assert after["toStep"] == found["progress"]["step"] == LONG
    steps = [point["step"] for point in found["history"]]
    assert steps == sorted(set(steps))
    assert len(demo.cluster.get("jobs", selector="model-garden.dev/training-job=killed")) == 1


def test_a_suspended_run_goes_on_where_it_was_and_stop_and_save_ends_it_early_with_a_usable_model(
    prompt_demo: Demo,
) -> None:
    demo = prompt_demo
    demo.cluster.apply(job("paused", vision=False, maxSteps=ENDLESS))
    wait(demo, "paused", lambda found: (found.get("progress") or {}).get("step", 0) > 5)
    suspend(demo, True)
    found = wait(demo, "paused", lambda found: found.get("phase") == "Suspended" and ended(found))
    stopped_at = found["lastCheckpointStep"]
    assert found["attempts"][0]["reason"] == "Stopped"
    suspend(demo, False)
    wait(demo, "paused", lambda found: (found.get("progress") or {}).get("step", 0) > stopped_at)
    demo.model_garden("stop", "paused")
    found = wait(demo, "paused", succeeded)
    assert found["attempts"][1]["fromStep"] == stopped_at
    assert stopped_at < found["progress"]["step"] < ENDLESS
    assert found["output"]["trainedSteps"] == found["progress"]["step"]
    assert found["output"]["verified"] is True


def suspend(demo: Demo, value: bool) -> None:
    patch = json.dumps({"spec": {"suspend": value}})
    demo.cluster.kubectl("patch", "trainingjob", "paused", "--type=merge", "-p", patch)


def checkpoints(demo: Demo, name: str) -> list[Path]:
    """The complete ones: the process may be writing another."""
    (volume,) = [path for path in (demo.cluster.directory / "volumes").iterdir() if "model-garden-models" in path.name]
    return [seal.parent for seal in (volume / name / "checkpoints").glob("checkpoint-*/complete.json")]
