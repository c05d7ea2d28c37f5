"""The operator with the rights that the chart gives it: no request is refused."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from devcluster.binaries import ensure_binaries
from tests.cluster import Object, TestCluster
from tests.controller.harness import OperatorHarness
from tools.generate import CHART

pytestmark = pytest.mark.cluster

ONE_GPU = {"limits": {"nvidia.com/gpu": 1}, "requests": {"cpu": "10m", "memory": "16Mi"}}
RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


def test_the_rights_of_the_chart_are_enough_for_all_that_happens(crd: TestCluster, tmp_path: Path) -> None:
    harness = OperatorHarness(crd, "limited", tmp_path)
    harness.kubeconfig = kubeconfig_of_the_chart(harness, tmp_path)
    harness.start_operator(
        pod={"POD_NAME": "limited", "POD_NAMESPACE": harness.namespace}, **{"LEADER_ELECTION": "true"}
    )
    harness.submit("prepared", {"STEPS": 1}, resources=ONE_GPU, quantization="16bit", ttlSecondsAfterFinished=600)
    harness.submit("stopped", {"STEPS": 1000})
    harness.submit("cancelled", {"STEPS": 1000})
    harness.submit("paused", {"STEPS": 1}, suspend=True)
    harness.submit("wide", {"STEPS": 2}, numNodes=2)
    harness.submit("homeless", storage={"dataClaim": "no-such-claim"})
    harness.until_step("stopped", 1)
    harness.annotate("stopped", "model-garden.dev/stop=save")
    harness.annotate("cancelled", "model-garden.dev/cancel=true")
    harness.until("paused", "Suspended")
    harness.patch("trainingjob", "paused", {"spec": {"suspend": False}})
    for name in ("prepared", "stopped", "paused", "wide"):
        harness.until(name, "Succeeded")
    harness.until("cancelled", "Cancelled")
    harness.until("homeless", "Failed")
    harness.cluster.until(lambda: "Succeeded" in dict(harness.events("paused")))
    harness.stop_operator()
    refused = [line for line in harness.log.read_text().splitlines() if "forbidden" in line.lower()]
    assert refused == []


def test_figures_come_as_soon_as_the_log_may_be_read(crd: TestCluster, tmp_path: Path) -> None:
    """An API server that has just started refuses what it allows a moment later."""
    harness = OperatorHarness(crd, "late-rights", tmp_path)
    harness.kubeconfig = kubeconfig_of_the_chart(harness, tmp_path)
    rules = crd.get("clusterrole", "model-garden-operator")["rules"]
    set_rules(crd, [rule for rule in rules if "pods/log" not in rule["resources"]])
    harness.start_operator()
    harness.submit("unread", {"STEPS": 1000})
    crd.until(lambda: "cannot be followed" in harness.log.read_text())
    set_rules(crd, rules)
    harness.until_step("unread", 1)
    harness.stop_operator()


def set_rules(crd: TestCluster, rules: list[Object]) -> None:
    crd.kubectl("patch", "clusterrole", "model-garden-operator", "--type=merge", "-p", json.dumps({"rules": rules}))


def kubeconfig_of_the_chart(harness: OperatorHarness, folder: Path) -> Path:
    """Create the chart's ServiceAccount with its roles, and write a kubeconfig that has its token alone."""
    helm = ensure_binaries(print, ["helm"]) / "helm"
    command = [str(helm), "template", "x", str(CHART), "--namespace", harness.namespace]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    objects: list[Object] = [item for item in YAML(typ="safe").load_all(rendered) if item and item["kind"] in RIGHTS]
    harness.cluster.apply(*objects)
    [account] = [item["metadata"]["name"] for item in objects if item["kind"] == "ServiceAccount"]
    config: Any = json.loads(harness.cluster.kubectl("config", "view", "--raw", "-o", "json"))
    token = harness.kubectl("create", "token", account).strip()
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path
