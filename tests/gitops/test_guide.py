"""Every YAML and every table row of docs/gitops.md, and the words that its commands use."""

from __future__ import annotations

import re
import shlex
from typing import get_args

import pytest

from model_garden.contract.status import ConditionType
from tests.cluster import TestCluster
from tests.controller.harness import OperatorHarness
from tests.gitops.test_health import STATUSES
from tests.gitops.tools import ARGOCD, GUIDE, ROOT, guide_manifests, load

pytestmark = pytest.mark.cluster

TEXT = GUIDE.read_text()
ROWS = {
    "the operator has not read it yet": ["not seen"],
    "`Pending`, `Preparing`, `Starting`: its Job, pod or container is being created": [
        "Pending, no Job",
        "Preparing, starts",
        "Pending, preflight succeeded",
        "Starting",
        "Starting, retry",
    ],
    "`Pending`, `Starting`, `Queued`: something is missing, such as a claim, an image or Kueue": [
        "Pending, no claim",
        "Starting, no image",
        "Queued, no Kueue",
    ],
    "`Pending`: no GPU or node is free": ["Pending, no GPU"],
    "`Queued`": ["Queued"],
    "`Preparing`, `Running`: the pod runs": ["Preparing", "Running"],
    "`Suspended`": ["Suspended", "Suspended, no Job", "Suspended by others"],
    "`Succeeded`": ["Succeeded"],
    "`Failed`": ["Failed", "Failed, invalid"],
    "`Cancelled`": ["Cancelled"],
}


def test_the_table_says_what_the_tools_say() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line[:1] == "|"]
    assert {cells[0] for cells in rows[2:]} == set(ROWS)
    for state, *expected in rows[2:]:
        assert all([*STATUSES[name][1:]] == expected for name in ROWS[state]), state


def test_the_manifests_name_what_exists() -> None:
    application, kustomization = guide_manifests()
    (ignored,) = application["spec"]["ignoreDifferences"]
    assert (ignored["group"], ignored["kind"]) == ("model-garden.dev", "TrainingJob")
    assert "RespectIgnoreDifferences=true" in application["spec"]["syncPolicy"]["syncOptions"]
    assert kustomization["spec"]["wait"] is True and kustomization["spec"]["timeout"] == "24h"
    assert set(kustomization["spec"]["healthCheckExprs"][0]) == {"apiVersion", "kind", "current", "failed"}


def test_the_patch_of_argo_cd_is_accepted(cluster: TestCluster) -> None:
    words = next(shlex.split(line) for line in TEXT.splitlines() if line.startswith("kubectl -n argocd patch"))
    assert words[-1] == str(ARGOCD.relative_to(ROOT))
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argocd"}}
    name = {"name": "argocd-cm", "namespace": "argocd"}
    before = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "data": {"url": "https://argocd.example.com"}}
    cluster.apply(namespace, before)
    cluster.kubectl(*words[1:-1], str(ARGOCD))
    after = cluster.get("configmap", "argocd-cm", "argocd")["data"]
    assert after == before["data"] | load(ARGOCD.read_text())["data"]  # type: ignore[operator]


def test_the_commands_of_scripts_return_when_the_condition_holds(garden: OperatorHarness) -> None:
    garden.submit("receipts-v1", {"STEPS": 1})
    waits = [shlex.split(line)[1:] for line in TEXT.splitlines() if line.startswith("kubectl wait")]
    finished, complete, suspended = waits
    for words in (finished, complete):
        garden.kubectl(*words[:-1], "--timeout=60s")
    named = {word.removeprefix("--for=condition=") for words in waits for word in words if "=condition=" in word}
    assert named <= set(get_args(ConditionType))
    garden.submit("receipts-v2", suspend=True)
    garden.kubectl(*(re.sub("v1$", "v2", word) for word in suspended[:-1]), "--timeout=60s")
