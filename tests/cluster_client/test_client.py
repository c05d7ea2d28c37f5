"""The cluster client against a real API server: lists in pages, watches that resume, errors that name fields."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from model_garden.cluster import Change, Cluster, ClusterError, Resource, Snapshot, connect, list_and_watch
from model_garden.cluster import client as clients
from tests.cluster import TestCluster

pytestmark = pytest.mark.cluster

MAPS = Resource("v1", "configmaps", "ConfigMap")
JOBS = Resource("batch/v1", "jobs", "Job")
NAMESPACE = "client"

Scenario = Callable[[Cluster], Coroutine[Any, Any, None]]


@pytest.fixture
def run(cluster: TestCluster, monkeypatch: pytest.MonkeyPatch) -> Callable[[Scenario], None]:
    """Run a scenario with a client that found the cluster by KUBECONFIG."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})

    async def main(scenario: Scenario) -> None:
        async with await connect() as client, asyncio.timeout(60):
            await scenario(client)

    return lambda scenario: asyncio.run(main(scenario))


def config_map(name: str, label: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"for": label}}}


def test_a_list_longer_than_a_page_is_whole(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PAGE", 3)

    async def scenario(client: Cluster) -> None:
        for number in range(8):
            await client.create(MAPS, config_map(f"page-{number}", "pages"), NAMESPACE)
        listing = await client.list(MAPS, NAMESPACE, labels="for=pages", trim=lambda item: item["metadata"]["name"])
        assert listing.items == [f"page-{number}" for number in range(8)]

    run(scenario)


def test_a_merge_patch_sets_and_removes(run: Any) -> None:
    async def scenario(client: Cluster) -> None:
        await client.create(MAPS, config_map("merged", "merging") | {"data": {"a": "1", "b": "2"}}, NAMESPACE)
        after = await client.patch(MAPS, "merged", {"data": {"a": None, "c": "3"}}, NAMESPACE)
        assert after["data"] == {"b": "2", "c": "3"}

    run(scenario)


def test_an_error_names_each_field_that_is_wrong(run: Any) -> None:
    template = {"spec": {"restartPolicy": "Always", "containers": [{"name": "BAD", "image": "i"}]}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "wrong"}, "spec": {"template": template}}

    async def scenario(client: Cluster) -> None:
        with pytest.raises(ClusterError) as refused:
            await client.create(JOBS, job, NAMESPACE)
        assert (refused.value.status, refused.value.reason) == (422, "Invalid")
        fields = {cause.field for cause in refused.value.causes}
        assert fields == {"spec.template.spec.containers[0].name", "spec.template.spec.restartPolicy"}
        assert not refused.value.retryable

    run(scenario)


def test_a_name_that_would_mean_the_whole_collection_is_refused(run: Any) -> None:
    async def scenario(client: Cluster) -> None:
        await client.create(MAPS, config_map("precious", "all"), NAMESPACE)
        for request, name in product((client.delete, client.get), ("", ".", "..")):
            with pytest.raises(ClusterError, match="which names no object") as refused:
                await request(MAPS, name, NAMESPACE)
            assert not refused.value.retryable
        assert await client.get(MAPS, "precious", NAMESPACE)

    run(scenario)


def test_an_object_created_since_with_the_same_name_is_not_deleted(run: Any) -> None:
    async def scenario(client: Cluster) -> None:
        first = await client.create(MAPS, config_map("named", "names"), NAMESPACE)
        await client.delete(MAPS, "named", NAMESPACE)
        await client.create(MAPS, config_map("named", "names"), NAMESPACE)
        with pytest.raises(ClusterError) as refused:
            await client.delete(MAPS, "named", NAMESPACE, uid=first["metadata"]["uid"])
        assert refused.value.reason == "Conflict"

    run(scenario)


async def seen(stream: AsyncIterator[Snapshot | Change], count: int) -> list[str]:
    reported = []
    async for item in stream:
        reported.append(_words(item))
        if len(reported) == count:
            return reported
    raise AssertionError("a watch never ends")


def _words(item: Snapshot | Change) -> str:
    if isinstance(item, Snapshot):
        return "snapshot of " + ",".join(found["metadata"]["name"] for found in item.items)
    return f"{item.type} {item.object['metadata']['name']}"


def test_a_watch_gives_a_snapshot_and_then_each_change(run: Any) -> None:
    async def scenario(client: Cluster) -> None:
        await client.create(MAPS, config_map("one", "watching"), NAMESPACE)
        stream = list_and_watch(client, MAPS, NAMESPACE, labels="for=watching")
        assert _words(await anext(stream)) == "snapshot of one"
        await client.create(MAPS, config_map("other", "nothing"), NAMESPACE)
        await client.create(MAPS, config_map("two", "watching"), NAMESPACE)
        await client.patch(MAPS, "two", {"data": {"a": "1"}}, NAMESPACE)
        await client.delete(MAPS, "two", NAMESPACE)
        assert await seen(stream, 3) == ["ADDED two", "MODIFIED two", "DELETED two"]

    run(scenario)


def test_a_watch_survives_closed_connections_and_an_expired_version(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from model_garden.cluster import watching as watches

    versions: list[str] = []
    watch_once = watches._watch_once

    def expiring(cluster: Cluster, resource: Resource, *rest: Any) -> Any:
        """The second connection asks for a version that etcd has long forgotten."""
        *place, version = rest
        versions.append(version)
        return watch_once(cluster, resource, *place, "1" if len(versions) == 2 else version)

    monkeypatch.setattr(watches, "WATCH_SECONDS", 1)
    monkeypatch.setattr(watches.random, "randrange", lambda _: 0)
    monkeypatch.setattr(watches, "_watch_once", expiring)

    async def scenario(client: Cluster) -> None:
        stream = list_and_watch(client, MAPS, NAMESPACE, labels="for=ageing")
        assert _words(await anext(stream)) == "snapshot of "
        changes = asyncio.create_task(seen(stream, 1))
        while len(versions) < 3 and not changes.done():
            await asyncio.sleep(0.05)
        await client.create(MAPS, config_map(f"late-{os.getpid()}", "ageing"), NAMESPACE)
        assert (await changes)[0].endswith((f"late-{os.getpid()}", "snapshot of "))

    run(scenario)


def test_a_watch_that_is_closed_at_once_is_retried_with_growing_pauses(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model_garden.cluster import watching as watches

    class EnoughSeen(Exception):
        pass

    pauses: list[int] = []

    async def closing(*_: Any) -> AsyncIterator[Any]:
        """As a proxy does that takes no long requests; and once the server, for a version that is too old."""
        if len(pauses) == 4:
            raise ClusterError(410, "Expired", "too old resource version")
        return
        yield

    def noted(failures: int) -> float:
        pauses.append(failures)
        if len(pauses) == 6:
            raise EnoughSeen
        return 0.0

    monkeypatch.setattr(watches, "_watch_once", closing)
    monkeypatch.setattr(watches, "pause", noted)

    async def scenario(client: Cluster) -> None:
        with pytest.raises(EnoughSeen):
            await seen(list_and_watch(client, MAPS, NAMESPACE, labels="for=none"), 100)

    run(scenario)
    assert pauses == [1, 2, 3, 4, 5, 6]


def test_without_a_cluster_the_error_names_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ClusterError, match=r"no cluster is configured.*set KUBECONFIG"):
        asyncio.run(connect())


def test_an_unreachable_api_server_is_named_by_its_address(
    cluster: TestCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    away = re.sub(r"https://127\.0\.0\.1:\d+", "https://127.0.0.1:9", cluster.kubeconfig.read_text())
    (tmp_path / "config").write_text(away)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))

    async def main() -> None:
        async with await connect() as client:
            with pytest.raises(ClusterError, match=r"https://127\.0\.0\.1:9 does not answer") as error:
                await client.get(MAPS, "x")
            assert error.value.retryable

    asyncio.run(main())
