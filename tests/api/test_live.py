"""Events and logs while they happen. No operator runs here: a test writes the status that it would write."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.api.conftest import BODY, NAMESPACE, ROUTE, bearer, set_status, token
from tests.cluster import TestCluster

pytestmark = pytest.mark.cluster

EVENTS = f"{ROUTE}/receipts/events"
Event = dict[str, str]


def events(answer: httpx.Response) -> Iterator[Event]:
    """The events of a stream, heartbeats left out."""
    assert answer.status_code == 200, answer.read()
    event: Event = {}
    for line in answer.iter_lines():
        if line.startswith(":"):
            continue
        if line:
            key, _, value = line.partition(": ")
            event[key] = value
        elif event:
            yield event
            event = {}


def step(event: Event) -> Any:
    return json.loads(event["data"])["status"].get("progress", {}).get("step")


def set_step(garden: TestCluster, number: int) -> None:
    set_status(garden, "receipts", phase="Running", progress={"step": number, "totalSteps": 9})


def test_a_stream_tells_every_change_until_the_end(api: httpx.Client, garden: TestCluster) -> None:
    api.post(ROUTE, json=BODY)
    with api.stream("GET", EVENTS) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        stream = events(answer)
        assert next(stream) == {"retry": "3000"}
        assert json.loads(next(stream)["data"])["phase"] == "Pending"
        set_step(garden, 1)
        assert step(next(stream)) == 1
        set_status(garden, "receipts", phase="Succeeded")
        last = next(stream)
        assert (last["event"], json.loads(last["data"])["phase"]) == ("job", "Succeeded")
        assert [event["event"] for event in stream] == ["end"]
    resumed = api.get(EVENTS, headers={"Last-Event-ID": last["id"]})
    assert resumed.status_code == 204  # an EventSource stops here


def test_a_resumed_stream_replays_what_was_missed(api: httpx.Client, garden: TestCluster) -> None:
    api.post(ROUTE, json=BODY)
    with api.stream("GET", EVENTS) as answer:
        stream = events(answer)
        next(stream), next(stream)
        set_step(garden, 1)
        seen = next(stream)["id"]
        set_step(garden, 2)
        set_step(garden, 3)
        assert [step(next(stream)), step(next(stream))] == [2, 3]
    with api.stream("GET", EVENTS, headers={"Last-Event-ID": seen}) as answer:
        stream = events(answer)
        next(stream)
        assert [step(next(stream)), step(next(stream))] == [2, 3]
    with api.stream("GET", EVENTS, headers={"Last-Event-ID": "unknown"}) as answer:
        stream = events(answer)
        next(stream)
        assert step(next(stream)) == 3


def test_a_stream_says_that_the_job_was_deleted(api: httpx.Client) -> None:
    api.post(ROUTE, json=BODY)
    with api.stream("GET", EVENTS) as answer:
        stream = events(answer)
        next(stream), next(stream)
        api.delete(f"{ROUTE}/receipts")
        assert [event["event"] for event in stream] == ["deleted", "end"]


def test_a_stream_outlives_a_restart_of_the_api_server_and_loses_nothing(
    api: httpx.Client, garden: TestCluster
) -> None:
    api.post(ROUTE, json=BODY)
    with api.stream("GET", EVENTS) as answer:
        stream = events(answer)
        next(stream), next(stream)
        set_step(garden, 1)
        seen = next(stream)
        assert step(seen) == 1
        garden.kill_api_server()
        down = api.get(EVENTS, headers={"Last-Event-ID": seen["id"]})
        assert (down.status_code, down.headers["Retry-After"]) == (503, "5")
        garden.up()
        for number in (2, 3):
            set_step(garden, number)
            assert step(next(stream)) == number  # a gap of the watch may hold only one
    with api.stream("GET", EVENTS, headers={"Last-Event-ID": seen["id"]}) as answer:
        stream = events(answer)
        next(stream)
        assert [step(next(stream)), step(next(stream))] == [2, 3]


def test_many_streams_share_one_watch(api: httpx.Client, address: str, garden: TestCluster) -> None:
    api.post(ROUTE, json=BODY)
    before = watches(garden)
    limits = httpx.Limits(max_connections=None)
    with httpx.Client(base_url=address, timeout=60, limits=limits) as client, ExitStack() as streams:
        opened = [events(streams.enter_context(client.stream("GET", EVENTS))) for _ in range(200)]
        for stream in opened:
            next(stream), next(stream)
        set_step(garden, 5)
        assert {step(next(stream)) for stream in opened} == {5}
        assert 1 <= watches(garden) <= before + 1


def watches(garden: TestCluster) -> int:
    """The watches of one namespace's TrainingJobs that the API server has open now.

    Those of all namespaces are not counted: the controllers of Kubernetes begin theirs half a minute after the CRD.
    """
    wanted = ('resource="trainingjobs"', 'scope="namespace"', 'verb="WATCH"')
    found = [
        line
        for line in garden.kubectl("get", "--raw", "/metrics").splitlines()
        if line.startswith("apiserver_longrunning_requests{") and all(label in line for label in wanted)
    ]
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in found)


def test_who_may_not_watch_is_told_before_the_stream_begins(api: httpx.Client, garden: TestCluster) -> None:
    api.post(ROUTE, json=BODY)
    getter = token(garden, "getter", "get")
    assert api.get(EVENTS, headers=bearer(getter)).status_code == 403
    assert api.get(f"{ROUTE}/nothing/events").status_code == 404


def pod(garden: TestCluster, script: str) -> None:
    """A pod of the job ``receipts`` that runs ``script`` in its trainer container."""
    metadata = {"name": "receipts-pod", "namespace": NAMESPACE, "labels": {"model-garden.dev/training-job": "receipts"}}
    container = {"name": "trainer", "image": "none", "command": ["sh", "-c", script]}
    garden.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]},
        }
    )


def test_the_log_is_read_whole_and_followed(api: httpx.Client, garden: TestCluster) -> None:
    logs = f"{ROUTE}/receipts/logs"
    api.post(ROUTE, json=BODY)
    assert "has no log yet" in api.get(logs).json()["detail"]
    pod(garden, "echo one; echo two; sleep 3; echo three")
    try:
        set_status(garden, "receipts", phase="Running", podName="receipts-pod")
        with api.stream("GET", logs, params={"follow": "true"}) as answer:
            assert answer.headers["content-type"].startswith("text/plain")
            lines = answer.iter_lines()
            assert [next(lines), next(lines)] == ["one", "two"]
            assert next(lines) == "three"
            assert api.get(logs, params={"tail": 1}).text == "three\n"
            set_status(garden, "receipts", phase="Succeeded")
            assert list(lines) == []
    finally:
        garden.kubectl("delete", "pod", "receipts-pod", "-n", NAMESPACE, "--ignore-not-found")
