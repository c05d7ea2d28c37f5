"""Who may do what: the caller's token decides, through the cluster's own RBAC."""

import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.api.conftest import BODY, ROUTE, bearer, serving, token
from tests.cluster import TestCluster

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def public(kubeconfig: Path) -> Iterator[str]:
    """A server that other machines can reach."""
    with serving(kubeconfig, "--host", "0.0.0.0") as address:
        yield address


def test_without_a_token_a_public_server_says_how_to_log_in(public: str) -> None:
    answer = httpx.get(public + ROUTE)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert "Authorization: Bearer TOKEN" in answer.json()["detail"]
    assert httpx.get(public + ROUTE, headers={"Authorization": "Basic eDp5"}).status_code == 401
    assert httpx.get(public + "/healthz").status_code == 200


def test_a_token_that_the_cluster_does_not_know_is_refused(api: httpx.Client, public: str) -> None:
    for address in (public, str(api.base_url)):  # on a laptop too: the kubeconfig is never used for another caller
        answer = httpx.get(address.rstrip("/") + ROUTE, headers=bearer("not-a-token"))
        assert (answer.status_code, answer.json()["reason"]) == (401, "Unauthorized")


def test_rbac_decides(api: httpx.Client, garden: TestCluster, public: str) -> None:
    writer, reader = token(garden, "writer", "create", "get", "list"), token(garden, "reader", "get", "list")
    refused = httpx.post(public + ROUTE, json=BODY, headers=bearer(reader))
    assert (refused.status_code, refused.json()["reason"]) == (403, "Forbidden")
    assert "cannot create resource" in refused.json()["detail"]
    assert httpx.post(public + ROUTE, json=BODY, headers=bearer(writer)).status_code == 201
    assert httpx.get(public + f"{ROUTE}/receipts", headers=bearer(reader)).json()["name"] == "receipts"
    elsewhere = httpx.get(public + ROUTE, params={"namespace": "kube-system"}, headers=bearer(reader))
    assert elsewhere.status_code == 403
    assert api.get(f"{ROUTE}/receipts", headers=bearer(reader)).status_code == 200


def test_who_may_not_list_is_still_told_that_a_job_is_not_there(garden: TestCluster, public: str) -> None:
    answer = httpx.get(f"{public}{ROUTE}/nothing", headers=bearer(token(garden, "single", "get")))
    assert (answer.status_code, answer.json()["reason"]) == (404, "NotFound")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "attacker.example"},  # DNS rebinding: the page's own name resolves to 127.0.0.1
        {"Host": "localhost.attacker.example:8000"},
        {"Host": ""},
        {"Origin": "https://attacker.example"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "null"},
    ],
)
def test_pages_of_another_origin_are_refused(address: str, headers: dict[str, str]) -> None:
    answer = httpx.get(address + ROUTE, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["reason"] == "Forbidden"


def test_the_page_of_the_server_itself_is_answered(address: str) -> None:
    assert httpx.get(address + ROUTE, headers={"Origin": address}).status_code == 200


def test_a_form_of_another_page_is_no_request(api: httpx.Client) -> None:
    answer = api.post(ROUTE, content=b"{}", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415


def test_a_large_body_is_refused_before_it_is_read(address: str) -> None:
    place = urlsplit(address).netloc
    connection = http.client.HTTPConnection(place, timeout=30)
    connection.putrequest("POST", ROUTE)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(10**12))
    connection.endheaders(b'"' + b"a" * (2 * 1024 * 1024))
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b'"text"', b"\xff", b"[]"])
def test_a_body_that_is_no_job_is_refused(api: httpx.Client, body: bytes) -> None:
    answer = api.post(ROUTE, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
