"""Shared GPUs and those of other makers: extended resources of a node, and claims that the real scheduler allocates."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart.test_chart import render
from tests.cluster import Object, TestCluster
from tests.controller.harness import OperatorHarness, condition
from tools.generate import ROOT

pytestmark = pytest.mark.cluster

LITTLE = {"cpu": "10m", "memory": "16Mi"}
DRIVER = "gpu.example.com"
V1 = {"apiVersion": "resource.k8s.io/v1"}
MIG, AMD = "nvidia.com/mig-1g.10gb", "amd.com/gpu"


@pytest.fixture(scope="module")
def node(harness: OperatorHarness) -> Iterator[str]:
    """The node, with a MIG slice, two GPUs of AMD, and one device of a DRA driver."""
    [node] = [found["metadata"]["name"] for found in harness.get("nodes")]
    added = {MIG: "1", AMD: "2"}
    patch_node(harness, node, dict(added))
    harness.cluster.apply(
        device_class(DRIVER), resource_slice(node, "one-gpu", DRIVER), template(harness, "one-gpu", DRIVER)
    )
    yield node
    harness.kubectl("delete", "resourceslice/one-gpu", f"deviceclass/{DRIVER}")
    patch_node(harness, node, dict.fromkeys(added))


def device_class(name: str, driver: str = DRIVER) -> Object:
    selector = {"cel": {"expression": f"device.driver == '{driver}'"}}
    return V1 | {"kind": "DeviceClass", "metadata": {"name": name}, "spec": {"selectors": [selector]}}


def resource_slice(node: str, name: str, driver: str) -> Object:
    """One device."""
    pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
    device = {"name": "gpu-0", "capacity": {"memory": {"value": "80Gi"}}}
    spec = {"driver": driver, "nodeName": node, "pool": pool, "devices": [device]}
    return V1 | {"kind": "ResourceSlice", "metadata": {"name": name}, "spec": spec}


def template(harness: OperatorHarness, name: str, device_class: str) -> Object:
    spec = {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": device_class}}]}}
    metadata = {"name": name, "namespace": harness.namespace}
    return V1 | {"kind": "ResourceClaimTemplate", "metadata": metadata, "spec": {"spec": spec}}


def patch_node(harness: OperatorHarness, node: str, amounts: dict[str, Any]) -> None:
    status = {"status": {"capacity": amounts, "allocatable": amounts}}
    harness.kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", json.dumps(status))


def claim(harness: OperatorHarness, name: str, steps: int, template: str = "one-gpu", **of: str) -> None:
    """Submit a job that asks for its GPU by a claim, or by the ``request`` of one."""
    resources = {"claims": [{"name": "gpu", **of}], "requests": LITTLE}
    env = [{"name": "STEPS", "value": str(steps)}]
    claims = [{"name": "gpu", "resourceClaimTemplateName": template}]
    pod = {"env": env, "resourceClaims": claims}
    harness.submit(name, resources=resources, podTemplate=pod, quantization="16bit")


@pytest.mark.parametrize(("name", "resource", "gpus"), [("sliced", MIG, 1), ("radeon", AMD, 2)])
def test_a_job_trains_on_the_gpus_that_it_names(
    harness: OperatorHarness, node: str, name: str, resource: str, gpus: int
) -> None:
    harness.submit(name, {"STEPS": 1}, resources={"limits": {resource: gpus}, "requests": LITTLE}, quantization="16bit")
    status = harness.until(name, "Succeeded")
    assert status["effectiveSpec"]["resources"]["limits"] == {resource: gpus}
    pod = harness.get("pod", status["attempts"][0]["pod"])
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {resource: str(gpus)}


def test_a_slice_in_use_is_waited_for_and_one_that_is_too_small_is_refused(harness: OperatorHarness, node: str) -> None:
    limits = {"limits": {MIG: 1}, "requests": LITTLE}
    harness.submit("holds", {"STEPS": 1000}, resources=limits, quantization="16bit")
    harness.until("holds", "Running")
    harness.submit("waits", {"STEPS": 1}, resources=limits, quantization="16bit")
    waiting = harness.until("waits", "Pending", reason="NoFreeGPU")
    assert f"no node has enough free {MIG}" in condition(waiting, "Running")["message"]
    harness.submit("large", {"MIN_GIB": 12}, resources=limits, quantization="16bit")
    refused = harness.until("large", "Failed")["failure"]
    assert refused["reason"] == "InsufficientGPUMemory"
    assert f"the largest {MIG} available to it has 9.7 GiB" in refused["message"]
    harness.kubectl("delete", "trainingjob", "holds")
    harness.until("waits", "Succeeded")


def test_a_job_of_a_higher_priority_class_takes_the_gpu_and_the_other_resumes(
    harness: OperatorHarness, node: str
) -> None:
    classes = render("priorityClasses[0].name=urgent", "priorityClasses[0].value=1000", namespace=harness.namespace)
    harness.cluster.apply(*(item for item in classes if item["kind"] == "PriorityClass"))
    limits = {"limits": {MIG: 1}, "requests": LITTLE}
    harness.submit("outranked", {"STEPS": 1000}, resources=limits, quantization="16bit")
    harness.until_step("outranked", 1)
    urgent = {"priorityClassName": "urgent", "env": [{"name": "STEPS", "value": "1"}]}
    harness.submit("urgent", resources=limits, podTemplate=urgent, quantization="16bit")
    harness.until("urgent", "Succeeded")
    harness.until_step("outranked", harness.status("outranked")["progress"]["step"] + 1)
    first, second = harness.status("outranked")["attempts"]
    assert first["reason"] == "Preempted"
    assert "a higher-priority pod preempted this pod" in first["message"]
    assert second["fromStep"] == first["toStep"] > 0, "no step is lost"
    harness.kubectl("delete", "trainingjob/outranked", "priorityclass/urgent")


def test_the_scheduler_allocates_the_device_of_a_claim(harness: OperatorHarness, node: str) -> None:
    claim(harness, "claimed", steps=1000)
    status = harness.until("claimed", "Running")
    pod = harness.get("pod", status["podName"])
    [named] = pod["status"]["resourceClaimStatuses"]
    allocated = harness.get("resourceclaim", named["resourceClaimName"])["status"]
    [device] = allocated["allocation"]["devices"]["results"]
    assert (device["driver"], device["device"], device["pool"]) == (DRIVER, "gpu-0", node)
    assert allocated["reservedFor"][0]["name"] == pod["metadata"]["name"]
    assert "nvidia.com/gpu" not in pod["spec"]["containers"][0]["resources"].get("limits", {})
    claim(harness, "next", steps=1)
    waiting = harness.until("next", "Pending", reason="NoFreeDevice")
    assert "no node has a free one for the claims" in condition(waiting, "Running")["message"]
    harness.kubectl("delete", "trainingjob", "claimed")
    harness.until("next", "Succeeded")


def test_a_claim_that_names_what_does_not_exist_is_told_at_once_and_fails(harness: OperatorHarness, node: str) -> None:
    claim(harness, "typo", steps=1, template="no-such-template")
    claim(harness, "misnamed", steps=1, request="gpus")
    told = condition(harness.until("misnamed", "Pending", reason="NotFound"), "Stalled")["message"]
    assert "the ResourceClaimTemplate 'one-gpu' has no request 'gpus', which spec.resources.claims names" in told
    assert "name one that it has (gpu)" in told
    failure = harness.until("typo", "Failed")["failure"]
    assert failure["reason"] == "NotFound"
    assert "the ResourceClaimTemplate 'no-such-template' does not exist in this namespace" in failure["message"]
    assert failure["message"].endswith("the operator stopped waiting after 6 s")
    assert harness.get("jobs", selector="model-garden.dev/training-job=typo") == []


def test_a_missing_device_class_is_named_before_anything_runs(harness: OperatorHarness, node: str) -> None:
    harness.cluster.apply(template(harness, "late", "late.example.com"))
    claim(harness, "classless", steps=1, template="late")
    status = harness.until("classless", "Pending", reason="NotFound")
    told = condition(status, "Stalled")["message"]
    assert f"the DeviceClass 'late.example.com' does not exist in the cluster (it has {DRIVER});" in told
    assert "request 'gpu' of the ResourceClaimTemplate 'late' names it (spec.podTemplate.resourceClaims)" in told
    assert harness.get("jobs", selector="model-garden.dev/training-job=classless") == []
    harness.cluster.apply(device_class("late.example.com"))
    harness.until("classless", "Succeeded")
    harness.kubectl("delete", "deviceclass/late.example.com")


def test_a_driver_without_devices_is_waited_for_and_told_at_once(harness: OperatorHarness, node: str) -> None:
    """An autoscaler may add a node with such devices once a pod asks for one."""
    driver = "idle.example.com"
    harness.cluster.apply(template(harness, "idle", driver), device_class(driver, driver))
    claim(harness, "idle", steps=1, template="idle")
    told = f"no ResourceSlice of the cluster offers a device of the driver '{driver}'; request 'gpu' of"
    harness.cluster.until(lambda: told in dict(harness.events("idle")).get("NoFreeDevice", ""))
    waiting = harness.until("idle", "Pending", reason="NoFreeDevice")
    harness.cluster.until(lambda: told in condition(harness.status("idle"), "Running")["message"])
    assert condition(waiting, "Stalled")["status"] == "False"
    harness.cluster.apply(resource_slice(node, "idle", driver))
    harness.until("idle", "Succeeded")
    harness.kubectl("delete", "resourceslice/idle", f"deviceclass/{driver}")


def test_the_manifests_of_the_guide_are_accepted(crd: TestCluster) -> None:
    blocks = (ROOT / "docs" / "gpu-sharing.md").read_text().split("```yaml\n")[1:]
    assert len(blocks) == 3
    for block in blocks:
        manifest = block.split("```")[0]
        crd.kubectl("apply", "--dry-run=server", "-f", "-", content=manifest)
