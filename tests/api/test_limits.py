"""The bounds of a server, tried on a real one: rates, streams, slow and large requests."""

from __future__ import annotations

import http.client
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from model_garden.api import body, connections, limits
from model_garden.api.limits import Gate, Rate
from model_garden.api.problems import TooManyRequests
from tests.api.conftest import BODY, ROUTE
from tests.api.local_server import running

PROBLEM = "application/problem+json"


def connect(address: str) -> socket.socket:
    parts = urlsplit(address)
    return socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=60)


def received(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    text = b""
    with suppress(ConnectionResetError):  # the server closed it with something unread
        while chunk := connection.recv(65536):
            text += chunk
    return text


def test_a_bucket_is_filled_again() -> None:
    now = [0.0]
    rate = Rate(2.0, 3, lambda: now[0])
    for _ in range(3):
        rate.take("ada")
    with pytest.raises(TooManyRequests):
        rate.take("ada")
    rate.take("bob")
    now[0] = 0.5
    rate.take("ada")
    with pytest.raises(TooManyRequests):
        rate.take("ada")


def test_a_gate_counts_each_caller_and_all() -> None:
    gate = Gate("things", per_caller=2, in_all=3, retry_seconds=1)
    with gate.entered("ada"), gate.entered("ada"):
        with pytest.raises(TooManyRequests, match="of this caller"), gate.entered("ada"):
            pass
        with gate.entered("bob"), pytest.raises(TooManyRequests, match="of all callers"), gate.entered("eve"):
            pass
        with gate.entered("eve"):
            pass
    with gate.entered("ada"):
        pass


def test_who_asks_too_often_is_told_when_to_ask_again(tmp_path: Path) -> None:
    rate = Rate(0.001, 2)
    with running(tmp_path, rate=rate) as address:
        assert [httpx.get(address + ROUTE).status_code for _ in range(2)] == [200, 200]
        for path in (ROUTE, "/training"):
            refused = httpx.get(address + path)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert httpx.get(address + ROUTE).headers["content-type"] == PROBLEM
        assert httpx.get(address + "/healthz").status_code == 200


def test_live_streams_of_one_caller_are_bounded_and_end_with_their_connection(tmp_path: Path) -> None:
    streams = Gate("live streams", per_caller=3, in_all=10, retry_seconds=15)
    with running(tmp_path, streams=streams) as address, ExitStack() as opened:
        assert httpx.post(address + ROUTE, json=BODY).status_code == 201
        events = f"{address}{ROUTE}/receipts/events"
        for path in (events, f"{address}/live/training"):
            assert opened.enter_context(httpx.stream("GET", path, timeout=60)).status_code == 200
        last = httpx.stream("GET", events, timeout=60)
        assert last.__enter__().status_code == 200
        refused = httpx.get(events)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "15")
        assert refused.json()["reason"] == "TooManyRequests"
        assert "3 live streams" in refused.json()["detail"]
        last.__exit__(None, None, None)
        while True:  # until the server saw that the connection is gone
            with httpx.stream("GET", events, timeout=60) as again:
                if again.status_code == 200:
                    break


def test_requests_in_progress_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_IN_PROGRESS", 1)
    with running(tmp_path) as address:
        httpx.post(address + ROUTE, json=BODY)
        with httpx.stream("GET", address + "/live/training", timeout=60):
            refused = httpx.get(address + ROUTE)
            assert (refused.status_code, refused.headers["content-type"]) == (503, PROBLEM)
            assert refused.headers["retry-after"] == "5"
            assert httpx.get(address + "/healthz").status_code == 200


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
def test_a_client_that_never_finishes_its_request_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    with running(tmp_path) as address, connect(address) as connection:
        connection.sendall(sent)
        assert received(connection) == b""


def test_a_client_that_is_slow_after_an_answer_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 3)
    with running(tmp_path) as address, connect(address) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHo")
        assert b"HTTP/1.1" not in received(connection)


def test_a_body_that_no_route_reads_keeps_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 3)
    with running(tmp_path) as address, connect(address) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        answer = connection.recv(65536)
        connection.sendall(b"a")
        assert b"200 OK" in answer + received(connection)


def test_a_connection_beyond_the_bound_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 1)
    with running(tmp_path) as address, connect(address), connect(address) as second:
        second.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert received(second) == b""


def test_a_slow_body_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "MAX_SECONDS", 0.3)
    with running(tmp_path) as address:
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
        connection.putrequest("POST", ROUTE)
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b'{"name": ')
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Content-Type"]) == (408, PROBLEM)
        connection.close()


def test_large_bodies_and_heads_are_refused(tmp_path: Path) -> None:
    with running(tmp_path) as address:
        large = b'{"name": "' + b"a" * body.MAX_BYTES + b'"}'
        chunks = (large[start : start + 65536] for start in range(0, len(large), 65536))  # no Content-Length
        refused = httpx.post(address + ROUTE, content=chunks, headers={"Content-Type": "application/json"})
        assert (refused.status_code, refused.headers["content-type"]) == (413, PROBLEM)
        with connect(address) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Large: " + b"a" * 200_000 + b"\r\n\r\n")
            assert b"HTTP/1.1 2" not in received(connection)
