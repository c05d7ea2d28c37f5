"""Races, made on purpose: the test calls the operator's parts one by one, on a real API server."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from model_garden.builders.settings import Settings
from model_garden.cluster import JOBS, TRAINING_JOBS, Cluster, ClusterError, connect
from model_garden.controller import events, leader
from model_garden.controller.events import EventPoster
from model_garden.controller.leader import Leader
from model_garden.controller.observed import condition, trim_job, trim_pod
from model_garden.controller.progress_stream import ProgressStreams
from model_garden.controller.reconcile import Reconciler
from model_garden.controller.store import Key, Store
from tests.cluster import PATIENCE, Object, TestCluster
from tests.controller.harness import CLAIMS, TRAINER, OperatorHarness
from tests.devcluster.objects import state

SETTINGS = Settings(trainer_command=TRAINER, **{f"{kind.lower()}_claim": name for kind, name in CLAIMS.items()})

Run = Callable[[Callable[[Cluster], Coroutine[Any, Any, None]]], None]


@pytest.fixture(scope="module")
def harness(crd: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> OperatorHarness:
    """A namespace without an operator."""
    return OperatorHarness(crd, "races", tmp_path_factory.mktemp("races"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Run]:
    monkeypatch.setattr(events, "_DRAIN_SECONDS", PATIENCE)

    def with_kubeconfig(kubeconfig: Path) -> Run:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))

        async def main(scenario: Callable[[Cluster], Coroutine[Any, Any, None]]) -> None:
            async with await connect() as cluster, asyncio.timeout(PATIENCE):
                await scenario(cluster)

        return lambda scenario: asyncio.run(main(scenario))

    return with_kubeconfig


@pytest.mark.cluster
def test_a_cancel_during_a_write_of_the_status_is_not_lost(
    harness: OperatorHarness, run: Callable[[Path], Run]
) -> None:
    harness.submit("cancelled-early", {"STEPS": 1000})
    key = Key(harness.namespace, "cancelled-early")

    async def scenario(cluster: Cluster) -> None:
        reconciler = make_reconciler(cluster, SETTINGS)
        store = reconciler.store
        store.put_training_job(await cluster.get(TRAINING_JOBS, key.name, key.namespace))
        await reconciler.reconcile(key)
        assert harness.job("cancelled-early")
        harness.annotate("cancelled-early", "model-garden.dev/cancel=true")  # the watch has not reported it yet
        with pytest.raises(ClusterError, match="the object has been modified"):
            await reconciler.reconcile(key)
        assert harness.status("cancelled-early") == {}
        store.put_training_job(await cluster.get(TRAINING_JOBS, key.name, key.namespace))
        await reconciler.reconcile(key)
        job = harness.job("cancelled-early")
        assert job is None or "deletionTimestamp" in job["metadata"]

    run(harness.kubeconfig)(scenario)
    harness.kubectl("delete", "trainingjob", "cancelled-early")


@pytest.mark.cluster
def test_a_job_whose_end_is_seen_before_that_of_its_pod_keeps_its_output(
    harness: OperatorHarness, run: Callable[[Path], Run]
) -> None:
    """Jobs and Pods are watched over two connections, and after an outage one may be seconds behind."""
    harness.submit("ahead", {"STEPS": 100_000})
    key, job = Key(harness.namespace, "ahead"), Key(harness.namespace, "ahead-train")

    async def scenario(cluster: Cluster) -> None:
        reconciler = make_reconciler(cluster, SETTINGS)
        store = reconciler.store
        store.put_training_job(await cluster.get(TRAINING_JOBS, key.name, key.namespace))
        await reconciler.reconcile(key)

        def running() -> Object | None:
            return next((pod for pod in harness.pods("ahead") if "running" in state(pod)), None)

        pod = await asyncio.to_thread(harness.cluster.until, running)
        store.put_pod(trim_pod(pod))
        harness.kubectl("annotate", "pod", pod["metadata"]["name"], "model-garden.dev/stop=save")
        await asyncio.to_thread(harness.cluster.until, lambda: condition(harness.job("ahead") or {}, "Complete"))
        store.put_job(trim_job(await cluster.get(JOBS, job.name, job.namespace)))
        while (pause := await reconciler.reconcile(key)) is not None:
            await asyncio.sleep(pause)

    run(harness.kubeconfig)(scenario)
    status = harness.status("ahead")
    assert (status["phase"], status["output"]["path"]) == ("Succeeded", "models/ahead")
    assert status["attempts"][0]["reason"] == "Stopped"
    harness.kubectl("delete", "trainingjob", "ahead")


@pytest.mark.cluster
def test_an_operator_with_other_settings_does_not_change_an_existing_job(
    harness: OperatorHarness, run: Callable[[Path], Run]
) -> None:
    """Without its claims a new job would be refused."""
    harness.submit("unchanged", {"STEPS": 1000})
    key = Key(harness.namespace, "unchanged")

    async def scenario(cluster: Cluster) -> None:
        first = make_reconciler(cluster, SETTINGS)
        first.store.put_training_job(await cluster.get(TRAINING_JOBS, key.name, key.namespace))
        await first.reconcile(key)
        await first.reconcile(key)
        before = harness.status("unchanged")
        second = make_reconciler(cluster, Settings())
        second.store.put_job(await cluster.get(JOBS, "unchanged-train", key.namespace))
        second.store.put_training_job(await cluster.get(TRAINING_JOBS, key.name, key.namespace))
        await second.reconcile(key)
        after = harness.status("unchanged")
        assert (after["phase"], after["effectiveSpec"]) == (before["phase"], before["effectiveSpec"])

    run(harness.kubeconfig)(scenario)
    harness.kubectl("delete", "trainingjob", "unchanged")


@pytest.mark.cluster
def test_events_that_wait_when_the_process_ends_are_posted(
    harness: OperatorHarness, run: Callable[[Path], Run]
) -> None:
    about = {"metadata": {"name": "gone", "namespace": harness.namespace, "uid": "some-uid"}}

    async def scenario(cluster: Cluster) -> None:
        poster = EventPoster(cluster, "test")
        posting = asyncio.create_task(poster.run())
        for number in range(5):
            poster.post(about, f"Number{number}", "said at the end", "Normal")
        await poster.drain()
        posting.cancel()

    run(harness.kubeconfig)(scenario)
    assert [reason for reason, _ in sorted(harness.events("gone"))] == [f"Number{number}" for number in range(5)]


@pytest.mark.cluster
def test_an_unexpected_error_is_one_event_about_the_job(harness: OperatorHarness, run: Callable[[Path], Run]) -> None:
    """A Job in a shape that no API server sends stands for a fault of the operator."""
    harness.submit("untidy", {"STEPS": 1000}, suspend=True)
    key = Key(harness.namespace, "untidy")

    async def scenario(cluster: Cluster) -> None:
        reconciler = make_reconciler(cluster, SETTINGS)
        posting = asyncio.create_task(reconciler.events.run())
        reconciler.store.put_training_job(await cluster.get(TRAINING_JOBS, key.name, key.namespace))
        job = {"name": "untidy-train", "namespace": key.namespace, "uid": "1", "resourceVersion": "1"}
        reconciler.store.put_job({"metadata": job})
        for _ in range(2):
            with pytest.raises(KeyError):
                await reconciler.reconcile(key)
        await reconciler.events.drain()
        posting.cancel()

    run(harness.kubeconfig)(scenario)
    [(reason, message)] = harness.events("untidy")
    assert reason == "ReconcileFailed"
    assert message.startswith("the operator failed to reconcile the TrainingJob (KeyError: ")
    harness.kubectl("delete", "trainingjob", "untidy")


def test_another_replica_takes_over_within_15_seconds_while_the_api_server_answers() -> None:
    """It sees the last renewal at one look, its age at another, and writes; each of the three may take 0.5 s."""
    assert leader.DURATION_SECONDS + 2 * leader.LOOK_SECONDS + 3 * 0.5 < 15


def test_a_lease_is_not_held_when_the_api_server_does_not_answer(
    run: Callable[[Path], Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API server that takes the connection and says nothing: the other replica's time must not run out meanwhile."""
    monkeypatch.setattr(leader, "ANSWER_SECONDS", 0.1)

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            writer.close()

    async def scenario(cluster: Cluster) -> None:
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        cluster.configuration.host = f"http://127.0.0.1:{port}"
        assert await Leader(cluster, "me", "default")._try() is False
        server.close()

    config = {
        "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:9"}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "users": [{"name": "x", "user": {}}],
        "current-context": "x",
    }
    (tmp_path / "config").write_text(json.dumps(config))
    run(tmp_path / "config")(scenario)


def make_reconciler(cluster: Cluster, settings: Settings) -> Reconciler:
    streams = ProgressStreams(cluster, lambda _: None, lambda _: None)
    return Reconciler(cluster, Store(lambda _: None), streams, EventPoster(cluster, "test"), settings, [])
