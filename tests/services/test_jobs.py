"""The services of every front door against a real API server, with no operator: tests write the status."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from model_garden.cluster import Cluster, ClusterError, Object, connect
from model_garden.contract.names import ANNOTATION_CANCEL, ANNOTATION_STOP
from model_garden.contract.resource import InvalidResource
from model_garden.services.actions import change_job, delete_job
from model_garden.services.errors import Conflict, NotFound
from model_garden.services.logs import read_log
from model_garden.services.manifest import Job, job_from_spec
from model_garden.services.queries import LATEST, find_job, list_jobs, watch_job
from model_garden.services.submission import create_job, job_to_rerun
from tests.cluster import TestCluster

pytestmark = pytest.mark.cluster

NAMESPACE = "services"
SPEC = {"baseModel": "tiny/model", "datasetPath": "./data/rows.jsonl"}
Scenario = Callable[[Cluster], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def namespace(cluster: TestCluster) -> TestCluster:
    cluster.serve_training_jobs()
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    return cluster


@pytest.fixture
def run(namespace: TestCluster, monkeypatch: pytest.MonkeyPatch) -> Callable[[Scenario], None]:
    """Run a scenario with a client of the cluster."""
    monkeypatch.setenv("KUBECONFIG", str(namespace.kubeconfig))

    async def main(scenario: Scenario) -> None:
        async with await connect() as client, asyncio.timeout(60):
            await scenario(client)

    return lambda scenario: asyncio.run(main(scenario))


def job(name: str, **spec: Any) -> Job:
    return job_from_spec(SPEC | spec, name)


def write_status(cluster: TestCluster, name: str, status: Object) -> None:
    patch = json.dumps({"status": status})
    options = ("--subresource=status", "--type=merge", "-p", patch, "-n", NAMESPACE)
    cluster.kubectl("patch", "trainingjob", name, *options)


def test_a_created_job_is_found_listed_and_the_latest(run: Any) -> None:
    async def scenario(client: Cluster) -> None:
        created = await create_job(client, job("first"), NAMESPACE)
        assert created["spec"]["baseModel"] == "tiny/model" and created["metadata"]["uid"]
        found = await find_job(client, NAMESPACE, "first")
        assert found["metadata"]["uid"] == created["metadata"]["uid"]
        assert "first" in [item["metadata"]["name"] for item in await list_jobs(client, NAMESPACE)]
        assert (await find_job(client, NAMESPACE, LATEST))["metadata"]["name"] == "first"

    run(scenario)


def test_a_dry_run_creates_nothing_and_a_taken_name_is_a_conflict(run: Any) -> None:
    async def scenario(client: Cluster) -> None:
        await create_job(client, job("dry"), NAMESPACE, dry_run=True)
        with pytest.raises(NotFound):
            await find_job(client, NAMESPACE, "dry")
        await create_job(client, job("taken"), NAMESPACE)
        with pytest.raises(Conflict, match="already has a TrainingJob taken"):
            await create_job(client, job("taken"), NAMESPACE)

    run(scenario)


def test_a_misspelled_name_gets_a_suggestion(run: Any) -> None:
    async def scenario(client: Cluster) -> None:
        await create_job(client, job("receipts"), NAMESPACE)
        with pytest.raises(NotFound, match="did you mean receipts"):
            await find_job(client, NAMESPACE, "reciepts")

    run(scenario)


def test_each_change_is_written_and_an_ended_job_takes_none(run: Any, namespace: TestCluster) -> None:
    async def scenario(client: Cluster) -> None:
        await create_job(client, job("changed"), NAMESPACE)
        stopped = await change_job(client, NAMESPACE, "changed", "stop")
        assert stopped["metadata"]["annotations"][ANNOTATION_STOP] == "save"
        cancelled = await change_job(client, NAMESPACE, "changed", "cancel")
        assert cancelled["metadata"]["annotations"][ANNOTATION_CANCEL] == "true"
        assert (await change_job(client, NAMESPACE, "changed", "suspend"))["spec"]["suspend"] is True
        assert (await change_job(client, NAMESPACE, "changed", "resume"))["spec"]["suspend"] is False
        write_status(namespace, "changed", {"phase": "Succeeded"})
        with pytest.raises(Conflict, match="changed has already ended: Succeeded"):
            await change_job(client, NAMESPACE, "changed", "stop")

    run(scenario)


def test_a_watch_ends_with_the_job_and_says_when_it_was_deleted(run: Any, namespace: TestCluster) -> None:
    async def scenario(client: Cluster) -> None:
        created = await create_job(client, job("watched"), NAMESPACE)
        phases = []
        async for state in watch_job(client, created):
            phases.append((state.get("status") or {}).get("phase"))
            write_status(namespace, "watched", {"phase": "Running" if len(phases) == 1 else "Failed"})
        assert phases == [None, "Running", "Failed"]
        gone = await create_job(client, job("gone"), NAMESPACE)
        with pytest.raises(NotFound, match="gone was deleted"):
            async for _ in watch_job(client, gone):
                await delete_job(client, NAMESPACE, "gone")

    run(scenario)


def test_a_rerun_keeps_the_spec_takes_the_next_name_and_another_folder(run: Any) -> None:
    async def scenario(client: Cluster) -> None:
        await create_job(client, job("again", outputDir="./models/again", suspend=True), NAMESPACE)
        changed = {"hyperparameters": {"learningRate": 1e-5}}
        rerun = await job_to_rerun(client, NAMESPACE, "again", changed)
        assert rerun.name == "again-2"
        created = await create_job(client, rerun, NAMESPACE)
        assert created["spec"]["outputDir"] == "./models/again-2" and "suspend" not in created["spec"]
        assert created["spec"]["hyperparameters"] == {"learningRate": 1e-5}
        with pytest.raises(InvalidResource, match="learningRate"):
            await job_to_rerun(client, NAMESPACE, "again", {"hyperparameters": {"learningRate": -1}})

    run(scenario)


def test_a_job_without_a_pod_has_no_log_yet_and_a_failed_one_has_the_lines_of_its_status(
    run: Any, namespace: TestCluster
) -> None:
    async def scenario(client: Cluster) -> None:
        created = await create_job(client, job("silent"), NAMESPACE)
        with pytest.raises(NotFound, match="silent is Pending and has no log yet"):
            await read_log(client, created)
        failure = {"reason": "OutOfMemory", "message": "no memory", "exitCode": 5, "logTail": ["one", "two"]}
        write_status(namespace, "silent", {"phase": "Failed", "failure": failure})
        failed = await find_job(client, NAMESPACE, "silent")
        log = await read_log(client, failed, tail=1)
        assert (log.lines, log.from_status) == (["two"], True)

    run(scenario)


def test_what_the_api_server_refuses_names_the_field(run: Any) -> None:
    async def scenario(client: Cluster) -> None:
        broken = job("broken")
        resource = broken.resource(NAMESPACE)
        resource["spec"]["trainOn"] = "questions"
        with pytest.raises(ClusterError) as refused:
            from model_garden.cluster import TRAINING_JOBS

            await client.create(TRAINING_JOBS, resource, NAMESPACE)
        assert any("spec.trainOn" in problem for problem in refused.value.problems())

    run(scenario)
