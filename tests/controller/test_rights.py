"""The operator under the very rights that the chart gives it: whatever it asks of the cluster, none is refused."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from devcluster.binaries import ensure_binaries
from tests.cluster import Object, TestCluster
from tests.controller.garden import Garden
from tools.generate import CHART

pytestmark = pytest.mark.cluster

ONE_GPU = {"limits": {"nvidia.com/gpu": 1}, "requests": {"cpu": "10m", "memory": "16Mi"}}
RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


def test_the_rights_of_the_chart_are_enough_for_all_that_happens(crd: TestCluster, tmp_path: Path) -> None:
    garden = Garden(crd, "limited", tmp_path)
    garden.kubeconfig = kubeconfig_of_the_chart(garden, tmp_path)
    garden.start_operator(pod={"POD_NAME": "limited", "POD_NAMESPACE": garden.namespace}, **{"LEADER_ELECTION": "true"})
    garden.submit("prepared", {"STEPS": 1}, resources=ONE_GPU, quantization="16bit", ttlSecondsAfterFinished=600)
    garden.submit("stopped", {"STEPS": 1000})
    garden.submit("cancelled", {"STEPS": 1000})
    garden.submit("paused", {"STEPS": 1}, suspend=True)
    garden.submit("wide", {"STEPS": 2}, numNodes=2)
    garden.submit("homeless", storage={"dataClaim": "no-such-claim"})
    garden.until_step("stopped", 1)
    garden.annotate("stopped", "model-garden.dev/stop=save")
    garden.annotate("cancelled", "model-garden.dev/cancel=true")
    garden.until("paused", "Suspended")
    garden.patch("trainingjob", "paused", {"spec": {"suspend": False}})
    for name in ("prepared", "stopped", "paused", "wide"):
        garden.until(name, "Succeeded")
    garden.until("cancelled", "Cancelled")
    garden.until("homeless", "Failed")
    garden.cluster.until(lambda: "Succeeded" in dict(garden.events("paused")))
    garden.stop_operator()
    refused = [line for line in garden.log.read_text().splitlines() if "forbidden" in line.lower()]
    assert refused == []


def kubeconfig_of_the_chart(garden: Garden, folder: Path) -> Path:
    """Create the chart's ServiceAccount with its roles, and write a kubeconfig that has its token alone."""
    helm = ensure_binaries(print, ["helm"]) / "helm"
    command = [str(helm), "template", "x", str(CHART), "--namespace", garden.namespace]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    objects: list[Object] = [item for item in YAML(typ="safe").load_all(rendered) if item and item["kind"] in RIGHTS]
    garden.cluster.apply(*objects)
    [account] = [item["metadata"]["name"] for item in objects if item["kind"] == "ServiceAccount"]
    config: Any = json.loads(garden.cluster.kubectl("config", "view", "--raw", "-o", "json"))
    token = garden.kubectl("create", "token", account).strip()
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path
