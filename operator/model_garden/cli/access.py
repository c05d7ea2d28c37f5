"""A command's session with the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from model_garden.cli.output import CommandError, note
from model_garden.cluster import Cluster, connect

T = TypeVar("T")
INTERRUPTED = 130
"""128 + SIGINT, as a shell reports it."""


def with_cluster(
    work: Callable[[Cluster, str], Awaitable[T]], *, context: str | None, namespace: str | None, detach_hint: str = ""
) -> T:
    """Run ``work`` with a client and a namespace.

    Args:
        work: what to do.
        context: a context of the kubeconfig, None for the current one.
        namespace: None for the context's.
        detach_hint: printed when Ctrl-C ends the command while the job runs on.

    Raises:
        ClusterError: the cluster refused, or cannot be reached.
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
