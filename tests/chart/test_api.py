"""The API of the chart: what is rendered, and a Deployment that really runs in a cluster."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from devcluster.binaries import ensure_binaries
from model_garden.storage.pod import place
from tests.cluster import TestCluster
from tests.controller.harness import free_port
from tests.web.conftest import form_token
from tools.generate import CHART

NAMESPACE = "mg"
ROUTE = "/api/v1/training/jobs"
BODY = {"name": "receipts", "base_model": "a/b", "dataset_path": "./data/receipts.jsonl"}
Object = dict[str, Any]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    binary = ensure_binaries(print, ["helm"]) / "helm"
    return subprocess.run([str(binary), *arguments], capture_output=True, text=True, check=False)


def render(*settings: str) -> list[Object]:
    """The objects of the API."""
    flags = [flag for setting in ("api.enabled=true", *settings) for flag in ("--set", setting)]
    answer = helm("template", "release", str(CHART), "--namespace", NAMESPACE, *flags)
    assert answer.returncode == 0, answer.stderr
    documents = [document for document in YAML(typ="safe").load_all(answer.stdout) if document]
    component = "app.kubernetes.io/component"
    return [one for one in documents if (one["metadata"].get("labels") or {}).get(component) == "api"]


def one(documents: list[Object], kind: str) -> Object:
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def container(documents: list[Object]) -> Object:
    found: Object = one(documents, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return found


def test_without_api_enabled_nothing_of_it_is_installed() -> None:
    assert render("api.enabled=false") == []


def test_the_api_has_no_rights_and_no_token() -> None:
    documents = render()
    kinds = {document["kind"] for document in documents}
    assert kinds == {
        *("Deployment", "Service", "ServiceAccount", "ConfigMap", "Secret", "PodDisruptionBudget", "NetworkPolicy")
    }
    pod = one(documents, "Deployment")["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == one(documents, "ServiceAccount")["metadata"]["name"] == "model-garden-api"
    assert pod["automountServiceAccountToken"] is False
    assert "serviceAccountToken" not in json.dumps(pod)
    kubeconfig = YAML(typ="safe").load(one(documents, "ConfigMap")["data"]["kubeconfig"])
    assert kubeconfig["users"] == [{"name": "caller", "user": {}}]


def test_the_api_runs_restricted() -> None:
    documents = render("api.temporaryStorage=2Gi")
    pod = one(documents, "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(documents)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"name": "tmp", "emptyDir": {"sizeLimit": "2Gi"}} in pod["volumes"]
    assert {container(documents)[f"{kind}Probe"]["httpGet"]["path"] for kind in ("liveness", "readiness")} == {
        "/healthz"
    }


def test_claims_image_and_addresses_reach_the_server() -> None:
    served = container(
        render("image.tag=v2", "storage.dataClaim=rows", "api.url=https://garden.test", "api.service.port=8080")
    )
    given = {item["name"]: item.get("value") for item in served["env"]}
    assert given["MODEL_GARDEN_DATA_CLAIM"] == "rows"
    assert given["MODEL_GARDEN_MODELS_CLAIM"] == "model-garden-models"
    assert given["MODEL_GARDEN_STORAGE_IMAGE"] == served["image"] == "model-garden/operator:v2"
    assert "--url=https://garden.test" in served["args"]
    assert "--url=http://model-garden-api.mg.svc:8080" in served["args"]
    assert "--proxy-auth" not in served["args"]
    assert "--proxy-auth" in container(render("api.proxyAuth=true"))["args"]


def test_the_storage_pod_pulls_its_image_with_the_secrets_of_the_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    served = container(render("imagePullSecrets[0].name=one", "imagePullSecrets[1].name=two"))
    given = {item["name"]: item.get("value") for item in served["env"]}
    monkeypatch.setenv("MODEL_GARDEN_STORAGE_PULL_SECRETS", given["MODEL_GARDEN_STORAGE_PULL_SECRETS"])
    assert place().pull_secrets == ("one", "two")
    assert "MODEL_GARDEN_STORAGE_PULL_SECRETS" not in {item["name"] for item in container(render())["env"]}


def test_a_session_key_of_ones_own_takes_the_place_of_the_charts() -> None:
    documents = render("api.sessionKeySecret=mine")
    assert not [document for document in documents if document["kind"] == "Secret"]
    (key,) = [item["valueFrom"] for item in container(documents)["env"] if item["name"] == "MODEL_GARDEN_SESSION_KEY"]
    assert key == {"secretKeyRef": {"name": "mine", "key": "key"}}


def test_ingress_and_route_lead_to_the_address_that_people_open() -> None:
    documents = render(
        *("api.url=https://garden.test/", "api.ingress.enabled=true", "api.ingress.tlsSecret=cert"),
        *("api.httpRoute.enabled=true", "api.httpRoute.parentRefs[0].name=public"),
    )
    ingress, route = one(documents, "Ingress")["spec"], one(documents, "HTTPRoute")["spec"]
    assert ingress["tls"] == [{"secretName": "cert", "hosts": ["garden.test"]}]
    assert ingress["rules"][0]["host"] == "garden.test"
    assert route["hostnames"] == ["garden.test"]
    assert route["parentRefs"] == [{"name": "public"}]
    service = one(documents, "Service")
    assert route["rules"][0]["backendRefs"] == [{"name": service["metadata"]["name"], "port": 80}]
    assert (
        service["spec"]["selector"].items()
        <= one(documents, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    )


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("api.ingress.enabled=true", "api.url is empty"),
        ("api.url=garden.test", "url"),
        ("api.replica=2", "replica"),
        ("api.kubernetesUrl=http://plain", "kubernetesUrl"),
    ],
)
def test_a_wrong_value_is_refused_by_name(setting: str, named: str) -> None:
    answer = helm("template", "release", str(CHART), "--set", "api.enabled=true", "--set", setting)
    assert answer.returncode != 0
    assert named in answer.stderr


@pytest.fixture(scope="module")
def installed(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The chart installed with its API and without its operator; the address of the API's pod."""
    port = free_port()
    values: Object = {
        "replicas": 0,
        # The cluster's API server listens on this machine; there is no cluster DNS.
        "api": {"enabled": True, "port": port, "kubernetesUrl": server(cluster), "resources": {}},
    }
    path = tmp_path_factory.mktemp("values") / "values.yaml"
    path.write_text(json.dumps(values))
    upgrade(cluster, path)
    key = session_key(cluster)
    upgrade(cluster, path)
    assert session_key(cluster) == key, "an upgrade ends no session"
    cluster.until(lambda: ready(cluster), "the API is ready")
    yield f"http://127.0.0.1:{port}"
    done = helm("uninstall", "garden", "--namespace", NAMESPACE, "--kubeconfig", str(cluster.kubeconfig))
    assert done.returncode == 0, done.stderr


def server(cluster: TestCluster) -> str:
    config = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json"))
    return str(config["clusters"][0]["cluster"]["server"])


def upgrade(cluster: TestCluster, values: Path) -> None:
    done = helm(
        *("upgrade", "--install", "garden", str(CHART), "--namespace", NAMESPACE, "--create-namespace"),
        *("--values", str(values), "--kubeconfig", str(cluster.kubeconfig)),
        # Other tests of the session have applied some of the chart's objects.
        *("--take-ownership", "--force-conflicts"),
    )
    assert done.returncode == 0, done.stderr
    assert "port-forward --namespace mg service/model-garden-api" in done.stdout


def session_key(cluster: TestCluster) -> str:
    return str(cluster.get("secret", "model-garden-api-session", NAMESPACE)["data"]["key"])


def ready(cluster: TestCluster) -> bool:
    found = cluster.get("deployment", "model-garden-api", NAMESPACE)
    return bool(found["status"].get("readyReplicas"))


def token(cluster: TestCluster, account: str, role: str | None) -> dict[str, str]:
    """The header of a new ServiceAccount with a ClusterRole in the namespace ``research``, or without any right."""
    cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "research"}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": "research"}},
    )
    if role:
        subject = f"--serviceaccount=research:{account}"
        cluster.kubectl("create", "rolebinding", account, "-n", "research", f"--clusterrole={role}", subject)
    return {"Authorization": "Bearer " + cluster.kubectl("create", "token", account, "-n", "research").strip()}


@pytest.mark.cluster
def test_the_installed_api_serves_each_caller_with_the_callers_own_rights(installed: str, cluster: TestCluster) -> None:
    """The way that the chart's notes show, with processes for pods."""
    cluster.until(lambda: cluster.try_kubectl("get", "trainingjobs").returncode == 0, "TrainingJobs are served")
    editor, nobody = token(cluster, "trainer", "edit"), token(cluster, "nobody", None)
    assert httpx.get(installed + "/healthz").status_code == 200
    assert httpx.get(installed + ROUTE).status_code == 401
    assert httpx.get(installed + ROUTE, headers={"Authorization": "Bearer x"}).status_code == 401
    refused = httpx.post(installed + ROUTE, json=BODY, headers=nobody)
    assert refused.status_code == 403
    assert "cannot create resource" in refused.json()["detail"]
    cluster.until(lambda: httpx.get(installed + ROUTE, headers=editor).status_code == 200, "the role is aggregated")
    created = httpx.post(installed + ROUTE, json=BODY, headers=editor)
    assert created.status_code == 201, created.text
    assert cluster.get("trainingjob", "receipts", "research")["spec"]["baseModel"] == "a/b"
    with httpx.Client(base_url=installed) as browser:
        page = browser.get("/training")
        assert page.status_code == 401
        form = {"csrf_token": form_token(page.text), "token": editor["Authorization"].removeprefix("Bearer ")}
        assert browser.post("/login", data=form).status_code == 303
        assert "receipts" in browser.get("/training").text
