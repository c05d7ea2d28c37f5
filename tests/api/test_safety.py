"""What an attacker tries at the REST API, with real requests: others' jobs, files outside, and tokens in the open."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from model_garden.api.app import create_app
from tests.api.conftest import BODY, ROUTE, bearer, serving, token
from tests.api.local_server import running
from tests.cli.conftest import COMMAND, environment
from tests.cluster import TestCluster

OPEN = {"/healthz", "/api/v1/version", "/api/v1/defaults", "/api/v1/render"}
"""What says nothing of a cluster, and so needs no token."""
ELSEWHERE = "elsewhere"
SECRET = "the content of a file outside"


@pytest.fixture(scope="module")
def public(kubeconfig: Path) -> Iterator[str]:
    """A server behind an Ingress."""
    with serving(kubeconfig, "--host", "0.0.0.0", "--url", "https://garden.test") as address:
        yield address


def operations() -> list[tuple[str, str]]:
    paths = create_app().openapi()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() if path not in OPEN for method in methods]


@pytest.mark.cluster
@pytest.mark.parametrize(("method", "path"), operations())
def test_no_operation_works_without_a_token(public: str, method: str, path: str) -> None:
    url = public + re.sub(r"\{\w+\}", "receipts", path)
    query = {"path": "./data/rows.jsonl", "folder": "rows"} if "datasets" in path else {}
    body = BODY if method == "POST" else None
    answer = httpx.request(method, url, params=query, json=body)
    assert answer.status_code == 401, (answer.status_code, answer.text)
    answer = httpx.request(method, url, params=query, headers=bearer("wrong"), json=body, timeout=60)
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)


@pytest.mark.cluster
def test_a_token_opens_its_own_namespace_alone(public: str, garden: TestCluster) -> None:
    garden.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ELSEWHERE}})
    job = {"apiVersion": "model-garden.dev/v1alpha1", "kind": "TrainingJob"}
    spec = {"baseModel": "a/b", "datasetPath": "./data/x.jsonl"}
    garden.apply(job | {"metadata": {"name": "theirs", "namespace": ELSEWHERE}, "spec": spec})
    mine = bearer(token(garden, "insider", "create", "get", "list", "watch", "patch", "delete"))
    there = {"namespace": ELSEWHERE}
    one = f"{public}{ROUTE}/theirs"
    for method, url, body in (
        ("GET", public + ROUTE, None),
        ("POST", public + ROUTE, BODY),
        ("GET", one, None),
        ("DELETE", one, None),
        ("GET", f"{one}/events", None),
        ("GET", f"{one}/logs", None),
        ("POST", f"{one}/cancel", None),
        ("POST", f"{one}/rerun", {}),
    ):
        answer = httpx.request(method, url, params=there, headers=mine, json=body)
        assert answer.status_code == 403, (method, url, answer.text)
        assert ELSEWHERE in answer.json()["detail"]
    assert httpx.get(public + ROUTE, params={"all_namespaces": True}, headers=mine).status_code == 403
    assert garden.get("trainingjob", "theirs", ELSEWHERE) is not None


@pytest.mark.cluster
def test_who_one_pretends_to_be_is_not_passed_on(public: str, garden: TestCluster) -> None:
    headers = bearer(token(garden, "modest", "get", "list"))
    headers |= {"Impersonate-User": "admin", "Impersonate-Group": "system:masters"}
    headers |= {"X-Forwarded-User": "admin", "X-Forwarded-Groups": "system:masters", "X-Remote-User": "admin"}
    assert httpx.post(public + ROUTE, json=BODY, headers=headers).status_code == 403


@pytest.mark.cluster
def test_a_proxys_token_counts_only_where_a_proxy_is_announced(
    public: str, garden: TestCluster, kubeconfig: Path
) -> None:
    sent = {"X-Forwarded-Access-Token": token(garden, "proxied", "get", "list")}
    assert httpx.get(public + ROUTE, headers=sent).status_code == 401
    with serving(kubeconfig, "--host", "0.0.0.0", "--proxy-auth") as behind:
        assert httpx.get(behind + ROUTE, headers=sent).status_code == 200
        assert httpx.get(behind + "/training", headers=sent).status_code == 200
        refused = httpx.get(behind + "/training")
        assert refused.status_code == 401
        assert "the proxy in front of this server sent no token" in refused.text
    with serving(kubeconfig, "--proxy-auth") as local:  # the kubeconfig is not for those whom the proxy let pass
        assert httpx.get(local + ROUTE).status_code == 401


@pytest.mark.cluster
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "attacker.test"},
        {"Host": "garden.test", "Origin": "https://attacker.test"},
        {"Host": "garden.test", "Origin": "http://garden.test"},
        {"Origin": "null"},
    ],
)
def test_pages_elsewhere_cannot_use_a_token_that_a_proxy_adds(
    public: str, garden: TestCluster, headers: dict[str, str]
) -> None:
    mine = bearer(token(garden, "proxied", "get", "list", "patch"))
    assert httpx.get(public + ROUTE, headers=mine | {"Host": "garden.test"}).status_code == 200
    # A form of another page can send this: it has no body that needs a permission.
    answer = httpx.post(f"{public}{ROUTE}/receipts/cancel", headers=mine | headers)
    assert answer.status_code == 403
    assert re.search("Host header|Origin header", answer.json()["detail"])


@pytest.mark.cluster
def test_a_token_is_in_no_log_and_no_answer(garden: TestCluster, kubeconfig: Path, tmp_path: Path) -> None:
    secret = token(garden, "discreet", "get", "list")
    config = json.loads(kubeconfig.read_text())
    broken = tmp_path / "kubeconfig"
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"  # an error of the connection too
    broken.write_text(json.dumps(config))
    for path in (kubeconfig, broken):
        command = [COMMAND, "serve", "--port", "0", "--host", "0.0.0.0"]
        with subprocess.Popen(
            command, env=environment(KUBECONFIG=str(path)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout and process.stderr
            address = "http://127.0.0.1:" + process.stdout.readline().rsplit(":", 1)[1].split("/")[0]
            said = ""
            for headers in (bearer(secret), bearer(secret + "x"), {"Authorization": f"Bearer {secret} x"}):
                for method, route in (("GET", ROUTE), ("GET", f"{ROUTE}/none"), ("POST", ROUTE), ("GET", "/training")):
                    body = BODY if method == "POST" else None
                    answer = httpx.request(method, address + route, headers=headers, json=body)
                    said += answer.text + str(answer.headers)
            said += httpx.get(f"{address}{ROUTE}", params={"token": secret}).text  # is no way to log in
            process.terminate()
            said += process.stdout.read() + process.stderr.read()
        assert secret[:40] not in said
        assert secret[-40:] not in said


ESCAPES = [
    "/static/../security.py",
    "/static/%2e%2e/security.py",
    "/static/..%2f..%2fcli/app.py",
    "/static//etc/passwd",
    "/static/vendor/..%5c..%5csecurity.py",
    f"{ROUTE}/..%2f..%2fnamespaces",
    f"{ROUTE}/%2e%2e",
    f"{ROUTE}/a%00b",
    "/training/..%2f..%2fetc%2fpasswd",
    "/api/v1/models/..%2f..%2foutside/download",
    "/api/v1/models/%2e%2e/download",
    "/api/v1/models/.hidden/download",
    "/api/v1/datasets/preview?path=../outside.jsonl",
    "/api/v1/datasets/preview?path=./data/../../outside.jsonl",
    "/api/v1/datasets/preview?path=./data/link.jsonl",
    "/api/v1/datasets/preview?path=OUTSIDE",
]


@pytest.mark.parametrize("target", ESCAPES)
def test_no_path_leads_outside(tmp_path: Path, target: str) -> None:
    workspace, outside = tmp_path / "workspace", tmp_path / "outside.jsonl"
    (workspace / "data").mkdir(parents=True)
    outside.write_text(json.dumps({"text": "a", "response": SECRET}) + "\n")
    (workspace / "data" / "link.jsonl").symlink_to(outside)
    with running(workspace) as address:
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)  # sends the path as it is
        connection.request("GET", target.replace("OUTSIDE", str(outside)))
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
    assert 400 <= answer.status < 500, text
    assert SECRET not in text
    assert "import annotations" not in text


def test_nothing_is_stored_outside_of_the_data_folder(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    row = b'{"text": "a", "response": "b"}\n'
    with running(workspace) as address:
        for folder, name in (
            ("../outside", "rows.jsonl"),
            ("rows", "../../../outside.jsonl"),
            ("rows", "/outside.jsonl"),
        ):
            answer = httpx.post(
                address + "/api/v1/datasets", params={"folder": folder}, files={"file": (name, row)}, timeout=60
            )
            assert 400 <= answer.status_code < 500, answer.text
    assert [path.name for path in tmp_path.iterdir()] == ["workspace"]
    assert not list(workspace.rglob("outside*"))


def test_browsers_run_nothing_of_an_answer(tmp_path: Path) -> None:
    with running(tmp_path) as address:
        for path in (ROUTE, f"{ROUTE}/none", "/api/v1/openapi.json", "/static/app.js", "/nothing"):
            headers = httpx.get(address + path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["content-security-policy"].startswith("default-src 'none'")
