"""List a collection and then watch it, for as long as the caller iterates: through closed connections, an API server's
restart, and versions that are too old to continue from.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal

from model_garden.cluster.client import Cluster, Object, _selectors
from model_garden.cluster.errors import UNREACHABLE, ClusterError, from_status
from model_garden.cluster.resources import Resource

_log = logging.getLogger(__name__)

WATCH_SECONDS = 300
"""After this long the server closes a watch; a silent connection is given up a minute later."""
_RELIST_AFTER_FAILURES = 2
_MAX_PAUSE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All objects there are now; whatever is not among them is gone."""

    items: list[Object]


@dataclass(frozen=True, slots=True)
class Change:
    """One object was added, modified or deleted."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Object


async def list_and_watch(
    cluster: Cluster,
    resource: Resource,
    namespace: str | None = None,
    *,
    labels: str | None = None,
    fields: str | None = None,
    trim: Callable[[Object], Object] = lambda item: item,
) -> AsyncIterator[Snapshot | Change]:
    """A snapshot, then every change, without end; another snapshot whenever changes may have been missed.

    Args:
        cluster: the client.
        resource: the kind.
        namespace: one namespace, or None for all.
        labels: a label selector.
        fields: a field selector, such as ``metadata.name=receipts``.
        trim: applied to each object on arrival.

    Raises:
        ClusterError: when the first list fails, or a later request fails in a way that trying again cannot help.
    """
    listing = await cluster.list(resource, namespace, labels=labels, fields=fields, trim=trim)
    yield Snapshot(listing.items)
    version, failures = listing.resource_version, 0
    while True:
        try:
            if failures > _RELIST_AFTER_FAILURES:
                listing = await cluster.list(resource, namespace, labels=labels, fields=fields, trim=trim)
                version = listing.resource_version
                yield Snapshot(listing.items)
            async for kind, item in _watch_once(cluster, resource, namespace, _selectors(labels, fields), version):
                version, failures = item["metadata"]["resourceVersion"], 0
                if kind != "BOOKMARK":
                    yield Change(kind, trim(item))
            failures += 1  # closed in time, or at once by something in between: that must not become a busy loop
        except ClusterError as error:
            if error.status == 410:
                failures = max(failures, _RELIST_AFTER_FAILURES)
            elif not error.retryable:
                raise
            else:
                _log.warning("the watch of %s was interrupted and resumes: %s", resource.plural, error)
            failures += 1
        await asyncio.sleep(pause(failures))


async def _watch_once(
    cluster: Cluster, resource: Resource, namespace: str | None, selectors: dict[str, str], version: str
) -> AsyncIterator[tuple[Any, Object]]:
    """The events of one connection, until the server closes it."""
    import aiohttp

    query = selectors | {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": version,
        "timeoutSeconds": str(WATCH_SECONDS + random.randrange(60)),  # so that not all watches end together
    }
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=WATCH_SECONDS + 120)
    async with cluster.open("GET", resource, resource.path(namespace), query, timeout=timeout) as response:
        async for line in lines(response):
            event = json.loads(line)
            if event["type"] == "ERROR":
                status = event["object"]
                raise from_status(status.get("code") or 500, status)
            yield event["type"], event["object"]


async def lines(response: Any, limit: int | None = None) -> AsyncIterator[bytes]:
    """The complete lines of a streamed answer, without their ends; one above ``limit`` bytes is cut there.

    Raises:
        ClusterError: reason ``Unreachable`` when the connection breaks.
    """
    import aiohttp

    rest = bytearray()
    try:
        async for chunk in response.content.iter_any():
            start = 0
            while (end := chunk.find(b"\n", start)) >= 0:
                rest += chunk[start:end]
                yield bytes(rest[:limit])
                rest.clear()
                start = end + 1
            rest += chunk[start:] if limit is None else chunk[start : start + max(0, limit - len(rest))]
    except (aiohttp.ClientError, OSError) as error:
        raise ClusterError(0, UNREACHABLE, f"the connection broke: {error or type(error).__name__}") from error
    if rest and limit is not None:
        yield bytes(rest)  # a log's last line may have no end; half an event of a watch is useless


def pause(failures: int) -> float:
    """Seconds to wait after so many failures in a row: doubling from 0.2, with jitter, at most ten."""
    return min(0.1 * 2.0**failures, _MAX_PAUSE_SECONDS) * random.uniform(0.5, 1.0)
