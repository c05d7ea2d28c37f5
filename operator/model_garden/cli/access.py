"""A command's session with the cluster: connects, finds the job that is meant, and puts refusals into words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from model_garden.cli.output import BAD_USAGE, FAILED, CommandError, note
from model_garden.cluster import TRAINING_JOBS, Cluster, ClusterError, Object, connect
from model_garden.cluster.errors import NOT_CONFIGURED
from model_garden.contract.names import GROUP, KIND

T = TypeVar("T")
LATEST = "@latest"
INTERRUPTED = 130


def with_cluster(
    work: Callable[[Cluster, str], Awaitable[T]], *, context: str | None, namespace: str | None, goes_on: str = ""
) -> T:
    """Run ``work`` with a client and the namespace that is meant.

    Args:
        work: what to do.
        context: a kubeconfig's context, None for the current one.
        namespace: None for the context's.
        goes_on: what is said when Ctrl-C ends the command while the job goes on.

    Raises:
        CommandError: the cluster refused, or cannot be reached.
    """

    async def session() -> T:
        async with await connect(context) as cluster:
            return await work(cluster, namespace or cluster.namespace)

    try:
        return asyncio.run(session())
    except ClusterError as refused:
        raise refusal(refused) from refused
    except KeyboardInterrupt as interrupted:
        if goes_on:
            note(goes_on)
        raise CommandError([], INTERRUPTED) from interrupted


def refusal(refused: ClusterError) -> CommandError:
    """What the API server said, field by field, with the exit code that fits."""
    if refused.status == 404 and refused.reason != "NotFound":
        return CommandError(
            f"this cluster knows no {KIND} ({GROUP}): install Model Garden first, with its Helm chart or "
            "kubectl apply -f manifests/operator.yaml",
            FAILED,
        )
    mistake = refused.reason in (NOT_CONFIGURED, "Invalid", "BadRequest")
    return CommandError(refused.problems(), BAD_USAGE if mistake else FAILED)


async def find_job(cluster: Cluster, namespace: str, name: str) -> Object:
    """The job called ``name``; ``@latest`` is the one created last.

    Raises:
        CommandError: there is none, with exit code 1.
    """
    if name != LATEST:
        try:
            return await cluster.get(TRAINING_JOBS, name, namespace)
        except ClusterError as refused:
            if refused.reason != "NotFound":
                raise
            raise await _not_found(cluster, namespace, name) from refused
    jobs = by_age((await cluster.list(TRAINING_JOBS, namespace)).items)
    if not jobs:
        raise CommandError(f"namespace {namespace} holds no TrainingJob", FAILED)
    return jobs[-1]


async def _not_found(cluster: Cluster, namespace: str, name: str) -> CommandError:
    from difflib import get_close_matches

    names = [job["metadata"]["name"] for job in (await cluster.list(TRAINING_JOBS, namespace)).items]
    near = get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return CommandError(f"namespace {namespace} holds no TrainingJob {name!r}{hint}", FAILED)


def by_age(jobs: list[Object]) -> list[Object]:
    """Jobs in the order in which they were created."""
    return sorted(jobs, key=lambda job: (job["metadata"]["creationTimestamp"], job["metadata"]["name"]))


def reference(job: Object | str) -> str:
    """A job as ``kubectl`` names it: ``trainingjob.model-garden.dev/receipts``."""
    name: Any = job if isinstance(job, str) else job["metadata"]["name"]
    return f"{KIND.lower()}.{GROUP}/{name}"
