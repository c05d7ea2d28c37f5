"""TrainingJobs that vanish in a gap of the watch are forgotten: against a real API server."""

from __future__ import annotations

import asyncio

import pytest

from model_garden.cluster import TRAINING_JOBS, connect
from model_garden.controller import watches
from model_garden.controller.store import Key, Store
from model_garden.controller.watches import forget_vanished, forget_vanished_once
from tests.cluster import TestCluster
from tests.contract.cases import BASE

pytestmark = pytest.mark.cluster
NAMESPACE = "vanished"


def serve_and_connect(cluster: TestCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    cluster.serve_training_jobs()
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})


@pytest.mark.parametrize("place", [None, NAMESPACE])
def test_a_job_that_was_deleted_unseen_leaves_the_store_and_a_living_one_stays(
    cluster: TestCluster, monkeypatch: pytest.MonkeyPatch, place: str | None
) -> None:
    serve_and_connect(cluster, monkeypatch)
    woken: list[Key] = []
    store = Store(woken.append)

    async def scenario() -> None:
        async with await connect() as client:
            for name in ("living", "gone"):
                job = {"apiVersion": "model-garden.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name}}
                store.put_training_job(await client.create(TRAINING_JOBS, job | {"spec": BASE}, NAMESPACE))
            await client.delete(TRAINING_JOBS, "gone", NAMESPACE)
            woken.clear()
            await forget_vanished_once(client, store, place)
            await client.delete(TRAINING_JOBS, "living", NAMESPACE)

    asyncio.run(scenario())
    assert store.training_job_keys(NAMESPACE) == {Key(NAMESPACE, "living")}
    assert woken == [Key(NAMESPACE, "gone")]


def test_a_list_after_a_gap_shows_what_is_gone_at_once(cluster: TestCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next look of its own would come after an hour."""
    serve_and_connect(cluster, monkeypatch)
    monkeypatch.setattr(watches, "_RELIST_SECONDS", 0.1)
    gone = asyncio.Event()
    store = Store(lambda _: gone.set())
    never_was = {"name": "gone", "namespace": NAMESPACE, "uid": "1", "resourceVersion": "1"}

    async def scenario() -> None:
        async with await connect() as client, asyncio.timeout(60):
            store.put_training_job({"metadata": never_was})
            gone.clear()
            relisted = asyncio.Event()
            forgetting = asyncio.create_task(forget_vanished(client, store, (), 3600, relisted))
            relisted.set()
            await gone.wait()
            forgetting.cancel()

    asyncio.run(scenario())
    assert store.training_job_keys(NAMESPACE) == set()
