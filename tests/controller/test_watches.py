"""TrainingJobs that vanish in a gap of the watch are forgotten: against a real API server."""

from __future__ import annotations

import asyncio

import pytest

from model_garden.cluster import TRAINING_JOBS, connect
from model_garden.controller.store import Key, Store
from model_garden.controller.watches import forget_vanished_once
from tests.cluster import CRD, TestCluster
from tests.contract.cases import BASE

pytestmark = pytest.mark.cluster
NAMESPACE = "vanished"


@pytest.mark.parametrize("place", [None, NAMESPACE])
def test_a_job_that_was_deleted_unseen_leaves_the_store_and_a_living_one_stays(
    cluster: TestCluster, monkeypatch: pytest.MonkeyPatch, place: str | None
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    cluster.kubectl("apply", "--server-side", "-f", str(CRD))
    cluster.kubectl("wait", "--for=condition=Established", "crd/trainingjobs.model-garden.dev", "--timeout=60s")
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
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
