"""The preflight Job of a TrainingJob that asks for a GPU: it requests a little CPU and no GPU."""

from typing import Any

import pytest

from tests.controller.harness import OperatorHarness, assert_in_order, condition

pytestmark = pytest.mark.cluster

ONE_GPU = {"limits": {"nvidia.com/gpu": 1}, "requests": {"cpu": "10m", "memory": "16Mi"}}


def submit(harness: OperatorHarness, name: str, env: dict[str, object] | None = None, **more: Any) -> None:
    harness.submit(name, {"STEPS": 1, **(env or {})}, **{"resources": ONE_GPU, "quantization": "16bit", **more})


def jobs(harness: OperatorHarness, name: str) -> list[str]:
    found = harness.get("jobs", selector=f"model-garden.dev/training-job={name}") or []
    return sorted(job["metadata"]["labels"]["model-garden.dev/step"] for job in found)


def test_the_preflight_of_a_gpu_job_runs_without_a_gpu(harness: OperatorHarness) -> None:
    submit(harness, "ready", {"STEPS": 4, "STEP_SECONDS": 1})
    status = harness.until("ready", "Succeeded")
    assert status["preflightCompletionTime"] <= status["startTime"]
    assert status["estimate"]["minGiB"] == 1
    assert status["jobName"] == "ready-train"
    [attempt] = status["attempts"]
    prepared, trained = (
        harness.get("pod", status_pod(harness, "ready", "preflight")),
        harness.get("pod", attempt["pod"]),
    )
    assert "nvidia.com/gpu" not in prepared["spec"]["containers"][0]["resources"].get("limits", {})
    assert trained["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert_in_order(harness, "ready", "Preparing", "Pending", "Starting", "Running", "Succeeded")
    seconds = f'model_garden_job_gpu_seconds_total{{name="ready",namespace="garden"}} {attempt["gpuSeconds"]}'
    harness.cluster.until(lambda: seconds.partition(".")[0] in harness.metrics(), "the metric of the GPU's seconds")
    assert status["usage"]["gpuHours"] == pytest.approx(attempt["gpuSeconds"] / 3600, abs=1e-6)


def test_the_message_of_preparing_names_the_stage(harness: OperatorHarness) -> None:
    submit(harness, "slowly", {"PREFLIGHT_SECONDS": 60})
    harness.cluster.until(lambda: "fetching 1 of 2 GiB" in message(harness, "slowly"))
    status = harness.status("slowly")
    assert (status["phase"], status["jobName"]) == ("Preparing", "slowly-preflight")
    assert condition(status, "Reconciling")["status"] == "False"
    harness.annotate("slowly", "model-garden.dev/cancel=true")
    harness.until("slowly", "Cancelled")
    assert jobs(harness, "slowly") == []


def test_bad_data_fails_the_job_before_it_requests_a_gpu(harness: OperatorHarness) -> None:
    submit(harness, "spoilt", {"PREFLIGHT_EXIT_CODE": 3})
    status = harness.until("spoilt", "Failed")
    assert status["failure"]["reason"] == "InvalidDataset"
    assert status["failure"]["message"] == "rows.jsonl row 7: no answer"
    assert jobs(harness, "spoilt") == ["preflight"]
    assert "attempts" not in status


def test_suspend_holds_a_preflight_and_the_training_after_it(harness: OperatorHarness) -> None:
    submit(harness, "held", suspend=True)
    harness.until("held", "Suspended")
    assert jobs(harness, "held") == ["preflight"]
    harness.patch("trainingjob", "held", {"spec": {"suspend": False}})
    harness.until("held", "Succeeded")


def test_kueue_queues_the_training_not_the_preflight(harness: OperatorHarness) -> None:
    queue = {"labels": {"kueue.x-k8s.io/queue-name": "gpus"}}
    submit(harness, "in-line", metadata=queue)
    harness.until("in-line", "Queued")
    labels = {step: harness.get("job", f"in-line-{step}")["metadata"]["labels"] for step in ("preflight", "train")}
    assert "kueue.x-k8s.io/queue-name" not in labels["preflight"]
    assert labels["train"]["kueue.x-k8s.io/queue-name"] == "gpus"


def test_a_finished_preflight_is_not_repeated_without_its_job_or_by_another_operator(harness: OperatorHarness) -> None:
    submit(harness, "once", {"STEPS": 400}, resources=ONE_GPU | {"limits": {"nvidia.com/gpu": 64}})
    harness.until("once", "Pending", reason="NoFreeGPU")
    harness.kill_operator()
    harness.kubectl("delete", "job", "once-preflight", "once-train", "--wait")
    harness.start_operator()
    harness.cluster.until(lambda: jobs(harness, "once") == ["train"], "another training Job, and no preflight")
    harness.until("once", "Pending", reason="NoFreeGPU")
    assert jobs(harness, "once") == ["train"]
    harness.kubectl("delete", "trainingjob", "once")


def test_a_job_that_no_gpu_can_hold_is_refused_with_the_parts_of_its_estimate(harness: OperatorHarness) -> None:
    [node] = [node["metadata"]["name"] for node in harness.get("nodes")]
    harness.kubectl("label", "node", node, "nvidia.com/gpu.memory=16384")
    try:
        submit(harness, "modest", {"MIN_GIB": 15})
        submit(harness, "giant", {"MIN_GIB": 17})
        failure = harness.until("giant", "Failed")["failure"]
        harness.until("modest", "Succeeded")
    finally:
        harness.kubectl("label", "node", node, "nvidia.com/gpu.memory-")
    assert failure["reason"] == "InsufficientGPUMemory"
    assert "needs at least 17.0 GiB" in failure["message"]
    assert "has 16.0 GiB" in failure["message"]
    assert "weights 17.00 GiB (scripted)" in failure["message"]
    assert "use quantization: 4bit" in failure["message"]
    assert jobs(harness, "giant") == ["preflight"]


def test_preflight_disabled_trains_at_once(harness: OperatorHarness) -> None:
    submit(harness, "bold", preflight="Disabled")
    status = harness.until("bold", "Succeeded")
    assert jobs(harness, "bold") == ["train"]
    assert "preflightCompletionTime" not in status


def message(harness: OperatorHarness, name: str) -> str:
    status = harness.status(name)
    return str(condition(status, "Running")["message"]) if status else ""


def status_pod(harness: OperatorHarness, name: str, step: str) -> str:
    selector = f"model-garden.dev/training-job={name},model-garden.dev/step={step}"
    [pod] = harness.get("pods", selector=selector)
    return str(pod["metadata"]["name"])
