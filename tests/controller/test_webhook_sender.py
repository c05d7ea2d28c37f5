"""Webhooks that do not answer, an operator that stops, and one that may not read Secrets, on a real API server."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from model_garden.cluster import Cluster, connect
from model_garden.controller import events, webhook
from model_garden.controller.events import EventPoster
from model_garden.controller.webhook import WebhookSender
from tests.cluster import PATIENCE, Object, TestCluster
from tests.controller.harness import OperatorHarness
from tests.controller.test_rights import kubeconfig_of_the_chart
from tests.monitoring.receiver import receiver

pytestmark = pytest.mark.cluster


def test_a_webhook_that_never_answers_delays_no_other_namespace_and_its_messages_become_events(
    crd: TestCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "MOST_WAITING", 2)
    monkeypatch.setattr(webhook, "AT_ONCE", 2)
    slow, quick = (OperatorHarness(crd, name, tmp_path) for name in ("slow", "quick"))

    async def scenario(sender: WebhookSender) -> None:
        reached = asyncio.Semaphore(0)

        async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            reached.release()
            await reader.read()
            writer.close()

        server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
        set_webhook(slow, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        for name in ("first", "second", "third"):
            sender.job_ended(ended(slow, name))
        for _ in range(2):
            await reached.acquire()
        sender.job_ended(ended(quick, "other"))
        while not answering.posted:
            await asyncio.sleep(0.05)
        server.close()

    with receiver() as answering:
        set_webhook(quick, f"{answering.url}/hook")
        run(crd.kubeconfig, monkeypatch, scenario)
    stopped = ("WebhookFailed", "the Secret model-garden-webhook: the operator stopped before the message was taken")
    assert slow.events("first") == slow.events("second") == [stopped]
    full = ("WebhookFailed", "the Secret model-garden-webhook: 2 messages of the namespace wait already")
    assert slow.events("third") == [full]
    assert quick.events("other") == []


def test_a_missing_right_to_read_secrets_is_one_line_of_the_log(
    crd: TestCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    harness = OperatorHarness(crd, "unreadable", tmp_path)
    monkeypatch.setattr(webhook, "_CLOSE_SECONDS", PATIENCE)
    kubeconfig = kubeconfig_of_the_chart(harness, tmp_path, f"watchNamespaces={{{harness.namespace}}}")

    async def scenario(sender: WebhookSender) -> None:
        for name in ("first", "second"):
            sender.job_ended(ended(harness, name))

    run(kubeconfig, monkeypatch, scenario)
    [line] = [record.getMessage() for record in caplog.records if record.name == webhook.__name__]
    assert line.startswith("webhooks are on, but the Secret model-garden-webhook cannot be read: ")
    assert harness.events("first") == harness.events("second") == []


def run(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch, scenario: Callable[[WebhookSender], Coroutine[Any, Any, None]]
) -> None:
    """Run a scenario, and end the sender and the Events in the order of the operator."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setattr(events, "_DRAIN_SECONDS", PATIENCE)

    async def main(cluster: Cluster) -> None:
        poster = EventPoster(cluster, "test")
        posting = asyncio.create_task(poster.run())
        sender = WebhookSender(cluster, poster, local=True)
        await scenario(sender)
        await sender.close()
        await poster.drain()
        posting.cancel()

    async def connected() -> None:
        async with await connect() as cluster, asyncio.timeout(PATIENCE):
            await main(cluster)

    asyncio.run(connected())


def set_webhook(harness: OperatorHarness, url: str) -> None:
    metadata = {"name": "model-garden-webhook", "namespace": harness.namespace}
    harness.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"url": url}})


def ended(harness: OperatorHarness, name: str) -> Object:
    metadata = {"name": name, "namespace": harness.namespace, "uid": name}
    return {"metadata": metadata, "spec": {"baseModel": "org/model"}, "status": {"phase": "Succeeded"}}
