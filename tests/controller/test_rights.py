"""The operator with the rights that the chart gives it: no request is refused, and no right is unused."""

import asyncio
import json
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from devcluster.binaries import ensure_binaries
from model_garden.cluster import TRAINING_JOBS, connect
from model_garden.controller.store import Key
from tests.cluster import Object, TestCluster
from tests.controller.harness import OperatorHarness
from tests.controller.test_races import SETTINGS, make_reconciler
from tools.generate import CHART
from tools.permissions import FOR_LEASE, IN_CLUSTER, IN_NAMESPACES, WITH_KUEUE, WITH_WEBHOOKS, Permission

pytestmark = pytest.mark.cluster

ONE_GPU = {"limits": {"nvidia.com/gpu": 1}, "requests": {"cpu": "10m", "memory": "16Mi"}}
DEVICE_CLASS = "rights.example.com"
RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
ACCOUNT = "model-garden-operator"
ASKED_BY_ADMISSION = {("update", "model-garden.dev", "trainingjobs/finalizers")}
"""No request of its own: the API server asks for it when an object with an owner is created."""


@pytest.fixture(autouse=True)
def no_class_is_left(crd: TestCluster) -> Iterator[None]:
    """The classes of the cluster are named to the jobs of other tests."""
    yield
    crd.kubectl("delete", "deviceclass", DEVICE_CLASS, "--ignore-not-found")


def test_the_rights_of_the_chart_are_enough_and_none_is_unused(
    crd: TestCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole jobs with the roles of the chart; the API server's audit log says what each role was used for."""
    harness = OperatorHarness(crd, "limited", tmp_path)
    harness.kubeconfig = kubeconfig_of_the_chart(harness, tmp_path, "webhooks.enabled=true")
    lease = {"pod": {"POD_NAME": "limited", "POD_NAMESPACE": harness.namespace}, "LEADER_ELECTION": "true"}
    harness.start_operator(**lease, WEBHOOKS="true")
    harness.submit("prepared", {"STEPS": 1}, resources=ONE_GPU, quantization="16bit", ttlSecondsAfterFinished=1)
    harness.submit("stopped", {"STEPS": 1000})
    harness.submit("cancelled", {"STEPS": 1000})
    harness.submit("paused", {"STEPS": 1}, suspend=True)
    harness.submit("wide", {"STEPS": 2}, numNodes=2)
    harness.submit("homeless", storage={"dataClaim": "no-such-claim"})
    submit_with_claims(harness, "claims", {"name": "none", "resourceClaimTemplateName": "no-such-template"})
    harness.until_step("stopped", 1)
    harness.annotate("stopped", "model-garden.dev/stop=save")
    harness.annotate("cancelled", "model-garden.dev/cancel=true")
    harness.until("paused", "Suspended")
    harness.patch("trainingjob", "paused", {"spec": {"suspend": False}})
    for name in ("prepared", "stopped", "paused", "wide"):
        harness.until(name, "Succeeded")
    harness.until("cancelled", "Cancelled")
    harness.until("homeless", "Failed")
    harness.until("claims", "Failed")
    harness.cluster.until(lambda: "Succeeded" in dict(harness.events("paused")))
    harness.stop_operator()
    find_a_job_that_no_watch_has_reported(harness, monkeypatch)
    requests = requests_of(crd, f"system:serviceaccount:{harness.namespace}:{ACCOUNT}")
    assert [request for request in requests if not allowed(request)] == []
    asked = {what(request) for request in requests if ACCOUNT in reason(request)} - granted(WITH_KUEUE)
    assert asked | ASKED_BY_ADMISSION == granted((*IN_NAMESPACES, *WITH_WEBHOOKS, *IN_CLUSTER, *FOR_LEASE))


def test_a_job_has_an_owner_where_the_api_server_checks_owners(crd: TestCluster, tmp_path: Path) -> None:
    harness = OperatorHarness(crd, "owned", tmp_path)
    harness.kubeconfig = kubeconfig_of_the_chart(harness, tmp_path)
    rules = crd.get("clusterrole", ACCOUNT)["rules"]
    set_rules(crd, [rule for rule in rules if "trainingjobs/finalizers" not in rule["resources"]])
    harness.start_operator()
    harness.submit("orphan", {"STEPS": 1})
    crd.until(lambda: "cannot set blockOwnerDeletion" in harness.log.read_text())
    set_rules(crd, rules)
    harness.until("orphan", "Succeeded")
    harness.stop_operator()


def test_figures_come_as_soon_as_the_log_may_be_read(crd: TestCluster, tmp_path: Path) -> None:
    """An API server that has just started refuses what it allows a moment later. Here with a Role for the namespace."""
    harness = OperatorHarness(crd, "late-rights", tmp_path)
    harness.kubeconfig = kubeconfig_of_the_chart(harness, tmp_path, f"watchNamespaces={{{harness.namespace}}}")
    role = ("role", ACCOUNT, "-n", harness.namespace)
    rules = crd.get("role", ACCOUNT, harness.namespace)["rules"]
    set_rules(crd, [rule for rule in rules if "pods/log" not in rule["resources"]], *role)
    harness.start_operator()
    harness.submit("unread", {"STEPS": 1000})
    submit_with_claims(harness, "unknown-class")
    crd.until(lambda: "cannot be followed" in harness.log.read_text())
    set_rules(crd, rules, *role)
    harness.until_step("unread", 1)
    harness.until("unknown-class", "Pending", reason="NoFreeDevice")  # it goes on without what it may not read
    harness.stop_operator()
    requests = requests_of(crd, f"system:serviceaccount:{harness.namespace}:{ACCOUNT}")
    refused = {what(request) for request in requests if not allowed(request)}
    of_the_cluster = {("list", "", "nodes"), ("list", "resource.k8s.io", "deviceclasses")}
    assert refused == {("get", "", "pods/log")} | of_the_cluster


def submit_with_claims(harness: OperatorHarness, name: str, *more: Object) -> None:
    """A job with a claim of devices that exists, and with more of them."""
    v1 = {"apiVersion": "resource.k8s.io/v1"}
    requests = [{"name": "gpu", "exactly": {"deviceClassName": DEVICE_CLASS}}]
    metadata = {"name": "shared", "namespace": harness.namespace}
    harness.cluster.apply(
        v1 | {"kind": "DeviceClass", "metadata": {"name": DEVICE_CLASS}, "spec": {}},
        v1 | {"kind": "ResourceClaim", "metadata": metadata, "spec": {"devices": {"requests": requests}}},
    )
    claims = [{"name": "shared", "resourceClaimName": "shared"}, *more]
    resources = ONE_GPU | {"claims": [{"name": claim["name"]} for claim in claims]}
    harness.submit(name, resources=resources, podTemplate={"resourceClaims": claims}, quantization="16bit")


def set_rules(crd: TestCluster, rules: list[Object], *role: str) -> None:
    words = role or ("clusterrole", ACCOUNT)
    crd.kubectl("patch", *words, "--type=merge", "-p", json.dumps({"rules": rules}))


def find_a_job_that_no_watch_has_reported(harness: OperatorHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an operator does whose list of Jobs is not complete yet: it creates the Job again, and reads the one there."""
    harness.submit("raced", {"STEPS": 1})
    key = Key(harness.namespace, "raced")
    monkeypatch.setenv("KUBECONFIG", str(harness.kubeconfig))

    async def reconcile_twice() -> None:
        async with await connect() as cluster:
            for _ in range(2):
                reconciler = make_reconciler(cluster, SETTINGS)
                reconciler.store.put_training_job(await cluster.get(TRAINING_JOBS, key.name, key.namespace))
                await reconciler.reconcile(key)

    asyncio.run(reconcile_twice())


def granted(permissions: Iterable[Permission]) -> set[tuple[str, str, str]]:
    """Verb, API group and resource of each permission."""
    return {(verb, one.group, one.plural) for one in permissions for verb in one.verbs.split()}


def requests_of(crd: TestCluster, user: str) -> list[Object]:
    """The requests of a user for objects, from the API server's audit log."""
    lines = (crd.directory / "log" / "audit.log").read_text().splitlines()
    requests = [json.loads(line) for line in lines]
    return [request for request in requests if request["user"]["username"] == user and "objectRef" in request]


def allowed(request: Object) -> bool:
    return bool(request["annotations"]["authorization.k8s.io/decision"] == "allow")


def reason(request: Object) -> str:
    """The role that allowed it."""
    return str(request["annotations"]["authorization.k8s.io/reason"])


def what(request: Object) -> tuple[str, str, str]:
    """Verb, API group and resource."""
    about = request["objectRef"]
    plural = "/".join(part for part in (about["resource"], about.get("subresource")) if part)
    return request["verb"], about.get("apiGroup", ""), plural


def kubeconfig_of_the_chart(harness: OperatorHarness, folder: Path, *settings: str) -> Path:
    """Create the chart's ServiceAccount with its roles, and write a kubeconfig that has its token alone."""
    helm = ensure_binaries(print, ["helm"]) / "helm"
    flags = [flag for setting in settings for flag in ("--set", setting)]
    command = [str(helm), "template", "x", str(CHART), "--namespace", harness.namespace, *flags]
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
