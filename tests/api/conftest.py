"""The REST API as people run it: ``model-garden serve``, a process of its own, in front of a real API server."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.conftest import COMMAND, environment
from tests.cluster import TestCluster

NAMESPACE = "rest"
ROUTE = "/api/v1/training/jobs"
BODY: dict[str, Any] = {"name": "receipts", "base_model": "a/b", "dataset_path": "./data/receipts.jsonl"}


@pytest.fixture(scope="session")
def garden(cluster: TestCluster) -> TestCluster:
    """A cluster that knows TrainingJobs, with a namespace for these tests."""
    cluster.serve_training_jobs()
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    cluster.until(lambda: cluster.get("serviceaccount", "default", NAMESPACE))
    return cluster


@pytest.fixture(scope="session")
def kubeconfig(garden: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The administrator's kubeconfig with the tests' namespace in its context."""
    config = json.loads(garden.kubectl("config", "view", "--raw", "-o", "json"))
    config["contexts"][0]["context"]["namespace"] = NAMESPACE
    path = tmp_path_factory.mktemp("serve") / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


@contextmanager
def serving(kubeconfig: Path, *arguments: str) -> Iterator[str]:
    """A server in front of a cluster, on a free port; its address."""
    with served(*arguments, env=environment(KUBECONFIG=str(kubeconfig))) as address:
        yield address


@contextmanager
def served(*arguments: str, env: dict[str, str], folder: Path | None = None) -> Iterator[str]:
    """``model-garden serve`` on a free port, started in a folder; its address."""
    process = subprocess.Popen(
        [COMMAND, "serve", "--port", "0", *arguments], cwd=folder, env=env, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        said = process.stdout.readline()
        assert "http://" in said, "the server did not start"
        yield "http://127.0.0.1:" + said.rsplit(":", 1)[1].split("/")[0]
    finally:
        process.terminate()
        process.wait()
        assert process.stdout
        process.stdout.close()


@pytest.fixture(scope="session")
def address(kubeconfig: Path) -> Iterator[str]:
    """A server for this machine alone."""
    with serving(kubeconfig) as found:
        yield found


@pytest.fixture
def api(garden: TestCluster, address: str) -> Iterator[httpx.Client]:
    """A client of the server, and no TrainingJob before and after."""
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client
    garden.kubectl("delete", "trainingjobs", "--all", "-n", NAMESPACE)


def set_status(garden: TestCluster, name: str, **status: Any) -> None:
    """Write a status as the operator would: none runs here."""
    garden.kubectl(
        *("patch", "trainingjob", name, "-n", NAMESPACE, "--subresource=status", "--type=merge"),
        *("--patch", json.dumps({"status": status})),
    )


def token(garden: TestCluster, account: str, *verbs: str) -> str:
    """The token of a new service account that may do ``verbs`` with TrainingJobs."""
    group = "rbac.authorization.k8s.io"
    metadata = {"name": account, "namespace": NAMESPACE}
    rule = {"apiGroups": ["model-garden.dev"], "resources": ["trainingjobs"], "verbs": list(verbs)}
    garden.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": account},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}],
        },
    )
    return garden.kubectl("create", "token", account, "-n", NAMESPACE).strip()


def bearer(token: str) -> dict[str, str]:
    """The headers that carry a token."""
    return {"Authorization": f"Bearer {token}"}
