"""Following a log: where to resume after a break, line by line."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_garden.cluster import connect, follow_log, logs
from model_garden.cluster.logs import _Place
from tests.cluster import TestCluster
from tests.controller.proxy import Proxy
from tests.devcluster.objects import container, pod

Line = tuple[str, str]

some_logs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.sampled_from(["a", "b"])), max_size=30).map(
    lambda found: [(f"2026-11-24T12:00:0{second}.{nano}Z", text) for second, nano, text in sorted(found)]
)


def answer(log: list[Line], place: _Place) -> list[Line]:
    """What the API server sends: all lines from the whole second on."""
    since = place.query().get("sinceTime", "")
    return [line for line in log if line[0][:19] + "Z" >= since]


@given(some_logs, st.lists(st.integers(0, 30), max_size=4))
def test_a_log_that_breaks_anywhere_is_read_once_each_line(log: list[Line], breaks: list[int]) -> None:
    place, read = _Place(), []
    for end in [*breaks, len(log)]:
        skip = place.resume()
        for stamp, text in answer(log, place)[: end if end != len(log) else None]:
            if place.take(stamp, text, skip):
                read.append((stamp, text))
    assert read == log


@pytest.mark.cluster
def test_a_connection_that_is_lost_without_a_word_is_replaced_and_no_line_is_lost(
    cluster: TestCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "SILENT_SECONDS", 1)
    proxy, signal = Proxy(cluster), tmp_path / "go-on"
    monkeypatch.setenv("KUBECONFIG", str(proxy.kubeconfig(tmp_path)))
    script = f"print('one', flush=True); wait_for({str(signal)!r}); print('two', flush=True)"
    cluster.apply(pod("lost-connection", container(script)))

    async def read() -> list[str]:
        lines = []
        async with await connect() as client, asyncio.timeout(60):
            async for line in follow_log(client, "lost-connection", "default", container="main"):
                lines.append(line)
                if line == "one":
                    proxy.forget()
                    signal.touch()
        await asyncio.to_thread(proxy.close)  # only now the lost connection can be closed
        return lines

    try:
        assert asyncio.run(read()) == ["one", "two"]
    finally:
        cluster.kubectl("delete", "pod", "lost-connection", "--wait=false")


async def read(pod: str, on_request: Callable[[str, str, int], None]) -> list[str]:
    """The lines of a pod's log; ``on_request`` is told of each request for them."""
    async with await connect() as client, asyncio.timeout(60):
        client.on_request = on_request
        return [line async for line in follow_log(client, pod, "default", container="main")]


@pytest.mark.cluster
def test_a_container_that_is_silent_for_long_is_followed_on(
    cluster: TestCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its connection is replaced now and then: nothing is read twice, and nobody is told."""
    monkeypatch.setattr(logs, "SILENT_SECONDS", 1)
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    signal, requests = tmp_path / "go-on", 0
    script = f"print('one', flush=True); wait_for({str(signal)!r}); print('two', flush=True)"
    cluster.apply(pod("silent", container(script)))

    def count(method: str, what: str, status: int) -> None:
        nonlocal requests
        requests += status == 200
        if requests == 3:
            signal.touch()

    try:
        assert asyncio.run(read("silent", count)) == ["one", "two"]
        assert caplog.records == []
    finally:
        cluster.kubectl("delete", "pod", "silent", "--wait=false")


@pytest.mark.cluster
def test_a_log_that_a_node_does_not_have_yet_is_waited_for(
    cluster: TestCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node answers 404 for a pod it was given but does not know yet, as for one that is gone."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    signal, missing = tmp_path / "go-on", 0
    first = container(f"wait_for({str(signal)!r})", "first")
    cluster.apply(pod("not-known-yet", container("print('one', flush=True)"), initContainers=[first]))

    def count(method: str, what: str, status: int) -> None:
        nonlocal missing
        missing += status == 404
        if missing == 2:
            signal.touch()

    try:
        assert asyncio.run(read("not-known-yet", count)) == ["one"]
    finally:
        signal.touch()
        cluster.kubectl("delete", "pod", "not-known-yet", "--wait=false")
