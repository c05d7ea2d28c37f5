"""A connection to the cluster for one command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from model_garden.cli.output import CommandError, note
from model_garden.cluster import Cluster, connect

T = TypeVar("T")
INTERRUPTED = 130
"""128 + SIGINT, as in a shell."""


def with_cluster(
    work: Callable[[Cluster, str], Awaitable[T]], *, context: str | None, namespace: str | None, detach_hint: str = ""
) -> T:
    """Connect to the cluster and run ``work``.

    Args:
        work: called with the client and the namespace.
        context: a context of the kubeconfig; None for the current one.
        namespace: None for the namespace of the context.
        detach_hint: printed when Ctrl-C ends the command but not the job.

    Raises:
        ClusterError: the API server refused, or cannot be reached.
        CommandError: Ctrl-C was pressed.
    """

    async def session() -> T:
        async with await connect(context) as cluster:
            return await work(cluster, namespace or cluster.namespace)

    try:
        return asyncio.run(session())
    except KeyboardInterrupt as interrupted:
        if detach_hint:
            note(detach_hint)
        raise CommandError([], INTERRUPTED) from interrupted
