"""The watch that callers of one server share, without a cluster: jobs in a folder of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from model_garden.cluster import TRAINING_JOBS, Cluster
from model_garden.local.home import local_home
from model_garden.services.feed import Feeds
from model_garden.services.manifest import job_from_spec
from model_garden.services.submission import create_job


def run(folder: Path, scenario: Callable[[Cluster, Feeds], Awaitable[None]]) -> None:
    async def main() -> None:
        with local_home(folder) as home:
            await scenario(home.cluster, Feeds())

    asyncio.run(main())


async def submit(cluster: Cluster, name: str) -> None:
    await create_job(cluster, job_from_spec({"baseModel": "a/b", "datasetPath": "./data/x.jsonl"}, name), "default")


def test_callers_share_each_state_of_a_job(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster, feeds: Feeds) -> None:
        for name in ("a", "b", "c"):
            await submit(cluster, name)
        one, another = [(await feeds.jobs(cluster, "default", caller)).items for caller in ("one", "another")]
        assert [job["metadata"]["name"] for job in one] == ["a", "b", "c"]
        assert all(first is second for first, second in zip(one, another, strict=True))

    run(tmp_path, scenario)


def test_what_was_created_or_deleted_a_moment_ago_is_in_the_list_or_not(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster, feeds: Feeds) -> None:
        for number in range(20):
            await submit(cluster, f"job-{number}")
            assert len((await feeds.jobs(cluster, "default", "me")).items) == number + 1
        for number in range(20):
            await cluster.delete(TRAINING_JOBS, f"job-{number}", "default")
            assert len((await feeds.jobs(cluster, "default", "me")).items) == 19 - number

    run(tmp_path, scenario)
