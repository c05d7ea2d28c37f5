"""Follow a container's log from its first line to its last: no line lost or doubled when a connection breaks."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from model_garden.cluster.client import Cluster, Object
from model_garden.cluster.errors import ClusterError
from model_garden.cluster.resources import PODS
from model_garden.cluster.watching import lines, pause

_log = logging.getLogger(__name__)

MAX_LINE_BYTES = 256 * 1024
SILENT_SECONDS = 300.0
"""After this time without a byte the connection may be lost, so another one is opened. A trainer may be as silent."""
_NO_LOG = (400, 404)
"""What the API server answers for a container that has not started, and for a pod that its node does not know yet."""


async def follow_log(cluster: Cluster, pod: str, namespace: str | None = None, *, container: str) -> AsyncIterator[str]:
    """The lines of a container's log as they are written, until it has ended or its pod is gone.

    A container that has not started is waited for. Lines come without their time stamps; one above 256 KiB is cut.

    Raises:
        ClusterError: when a request fails in a way that trying again cannot help (but for a pod that is gone).
    """
    place = _Place()
    failures = 0
    ended = False
    while True:
        try:
            async for line in _read_from(cluster, pod, namespace, container, place, follow=not ended):
                failures = 0
                yield line
            answered = True
        except ClusterError as error:
            answered = error.status in _NO_LOG
            if not answered and not error.retryable:
                raise
            _log.debug("log of %s/%s interrupted: %s", namespace, pod, error)
        if ended and answered:
            return
        try:
            if not ended and _ended(await cluster.get(PODS, pod, namespace), container):
                ended = True
                continue  # what it wrote at its end
        except ClusterError as error:
            if error.status == 404:
                return
            if not error.retryable:
                raise
        failures += 1
        await asyncio.sleep(pause(failures))


async def _read_from(
    cluster: Cluster, pod: str, namespace: str | None, container: str, place: _Place, *, follow: bool
) -> AsyncIterator[str]:
    import aiohttp

    query = {"container": container, "timestamps": "true"} | place.query()
    if follow:
        query["follow"] = "true"
    path = PODS.path(namespace or cluster.namespace, pod, "log")
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENT_SECONDS)
    skip = place.resume()
    async with cluster.open("GET", PODS, path, query, timeout=timeout) as response:
        async for raw in lines(response, MAX_LINE_BYTES):
            stamp, _, text = raw.decode(errors="replace").partition(" ")
            if place.take(stamp, text, skip):
                yield text


class _Place:
    """How far a log has been read. ``sinceTime`` knows whole seconds only, so the lines of the last second are kept."""

    def __init__(self) -> None:
        self._second = ""
        self._read: Counter[tuple[str, str]] = Counter()

    def query(self) -> dict[str, str]:
        return {"sinceTime": f"{self._second}Z"} if self._second else {}

    def resume(self) -> Counter[tuple[str, str]]:
        """What the next answer will repeat."""
        return self._read.copy()

    def take(self, stamp: str, text: str, skip: Counter[tuple[str, str]]) -> bool:
        """Note a line; False if it was read before."""
        second = stamp[:19]  # 2026-01-01T00:00:00 of 2026-01-01T00:00:00.123456789Z
        if second < self._second:
            return not skip  # before the point of resumption; while reading on, two streams may cross by a hair
        if skip[stamp, text] > 0:
            skip[stamp, text] -= 1
            return False
        if second > self._second:
            self._second = second
            self._read.clear()
        self._read[stamp, text] += 1
        return True


def _ended(pod: Object, container: str) -> bool:
    statuses: list[dict[str, Any]] = (pod.get("status") or {}).get("containerStatuses") or []
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return True
    return any(s["name"] == container and "terminated" in (s.get("state") or {}) for s in statuses)
