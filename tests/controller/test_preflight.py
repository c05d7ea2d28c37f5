"""The preflight Job of a TrainingJob that asks for a GPU: it asks the cluster for a little CPU alone."""

from typing import Any

import pytest

from tests.controller.garden import Garden, condition

pytestmark = pytest.mark.cluster

ONE_GPU = {"limits": {"nvidia.com/gpu": 1}, "requests": {"cpu": "10m", "memory": "16Mi"}}


def submit(garden: Garden, name: str, env: dict[str, object] | None = None, **more: Any) -> None:
    garden.submit(name, {"STEPS": 1, **(env or {})}, **{"resources": ONE_GPU, "quantization": "16bit", **more})


def jobs(garden: Garden, name: str) -> list[str]:
    found = garden.get("jobs", selector=f"model-garden.dev/training-job={name}") or []
    return sorted(job["metadata"]["labels"]["model-garden.dev/step"] for job in found)


def test_a_job_for_a_gpu_is_prepared_without_one_then_trains(garden: Garden) -> None:
    submit(garden, "ready")
    status = garden.until("ready", "Succeeded")
    assert status["preflightCompletionTime"] <= status["startTime"]
    assert status["estimate"]["minGiB"] == 1
    assert status["jobName"] == "ready-train"
    [attempt] = status["attempts"]
    prepared, trained = garden.get("pod", status_pod(garden, "ready", "preflight")), garden.get("pod", attempt["pod"])
    assert "nvidia.com/gpu" not in prepared["spec"]["containers"][0]["resources"].get("limits", {})
    assert trained["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    phases = [reason for reason, _ in garden.cluster.until(lambda: _with(garden.events("ready"), "Succeeded"))]
    assert phases == ["Preparing", "Pending", "Starting", "Running", "Succeeded"]


def test_preparing_says_at_what(garden: Garden) -> None:
    submit(garden, "slowly", {"PREFLIGHT_SECONDS": 60})
    garden.cluster.until(lambda: "fetching 1 of 2 GiB" in message(garden, "slowly"))
    status = garden.status("slowly")
    assert (status["phase"], status["jobName"]) == ("Preparing", "slowly-preflight")
    assert condition(status, "Reconciling")["status"] == "False"
    garden.annotate("slowly", "model-garden.dev/cancel=true")
    garden.until("slowly", "Cancelled")
    assert jobs(garden, "slowly") == []


def test_bad_data_fails_the_job_and_no_gpu_is_ever_asked_for(garden: Garden) -> None:
    submit(garden, "spoilt", {"PREFLIGHT_EXIT_CODE": 3})
    status = garden.until("spoilt", "Failed")
    assert status["failure"]["reason"] == "InvalidDataset"
    assert status["failure"]["message"] == "rows.jsonl row 7: no answer"
    assert jobs(garden, "spoilt") == ["preflight"]
    assert "attempts" not in status


def test_suspend_holds_a_preflight_and_the_training_after_it(garden: Garden) -> None:
    submit(garden, "held", suspend=True)
    garden.until("held", "Suspended")
    assert jobs(garden, "held") == ["preflight"]
    garden.patch("trainingjob", "held", {"spec": {"suspend": False}})
    garden.until("held", "Succeeded")


def test_kueue_queues_the_training_not_the_preflight(garden: Garden) -> None:
    queue = {"labels": {"kueue.x-k8s.io/queue-name": "gpus"}}
    submit(garden, "in-line", metadata=queue)
    garden.until("in-line", "Succeeded")
    labels = {step: garden.get("job", f"in-line-{step}")["metadata"]["labels"] for step in ("preflight", "train")}
    assert "kueue.x-k8s.io/queue-name" not in labels["preflight"]
    assert labels["train"]["kueue.x-k8s.io/queue-name"] == "gpus"


def test_what_was_prepared_stays_so_without_its_job_and_with_another_operator(garden: Garden) -> None:
    submit(garden, "once", {"STEPS": 400}, resources=ONE_GPU | {"limits": {"nvidia.com/gpu": 64}})
    garden.until("once", "Pending", reason="NoFreeGPU")
    garden.kill_operator()
    garden.kubectl("delete", "job", "once-preflight", "once-train", "--wait")
    garden.start_operator()
    garden.cluster.until(lambda: jobs(garden, "once") == ["train"], "another training Job, and no preflight")
    garden.until("once", "Pending", reason="NoFreeGPU")
    assert jobs(garden, "once") == ["train"]
    garden.kubectl("delete", "trainingjob", "once")


def test_a_job_that_no_gpu_can_hold_is_refused_with_the_parts_of_its_estimate(garden: Garden) -> None:
    [node] = [node["metadata"]["name"] for node in garden.get("nodes")]
    garden.kubectl("label", "node", node, "nvidia.com/gpu.memory=16384")
    try:
        submit(garden, "modest", {"MIN_GIB": 15})
        submit(garden, "giant", {"MIN_GIB": 17})
        failure = garden.until("giant", "Failed")["failure"]
        garden.until("modest", "Succeeded")
    finally:
        garden.kubectl("label", "node", node, "nvidia.com/gpu.memory-")
    assert failure["reason"] == "InsufficientGPUMemory"
    assert "needs at least 17.0 GiB" in failure["message"]
    assert "has 16.0 GiB" in failure["message"]
    assert "weights 17.00 GiB (scripted)" in failure["message"]
    assert "use quantization: 4bit" in failure["message"]
    assert jobs(garden, "giant") == ["preflight"]


def test_preflight_disabled_trains_at_once(garden: Garden) -> None:
    submit(garden, "bold", preflight="Disabled")
    status = garden.until("bold", "Succeeded")
    assert jobs(garden, "bold") == ["train"]
    assert "preflightCompletionTime" not in status


def message(garden: Garden, name: str) -> str:
    status = garden.status(name)
    return str(condition(status, "Running")["message"]) if status else ""


def status_pod(garden: Garden, name: str, step: str) -> str:
    selector = f"model-garden.dev/training-job={name},model-garden.dev/step={step}"
    [pod] = garden.get("pods", selector=selector)
    return str(pod["metadata"]["name"])


def _with(events: list[tuple[str, str]], reason: str) -> list[tuple[str, str]] | None:
    return events if any(found == reason for found, _ in events) else None
