"""Where a job stands in line, from Kueue's visibility API. Kueue may not serve it; then nothing is told."""

from __future__ import annotations

import json
import logging
import time

from model_garden.cluster import QUEUE_VISIBILITY, Cluster, ClusterError
from model_garden.controller.kueue import Workload

_log = logging.getLogger(__name__)

FRESH_SECONDS = 5.0
"""For how long an answer serves all jobs of a queue."""
_PAUSE_SECONDS = 15.0
"""For how long a queue is not asked about after a refusal: the LocalQueue may be created a moment later."""


class QueuePositions:
    """The places of the Workloads of each LocalQueue, asked for when a job waits."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[tuple[str, str], tuple[float, dict[str, int]]] = {}

    async def position(self, namespace: str, workload: Workload) -> int | None:
        """The place in the line of the ClusterQueue, from 1; None if Kueue does not tell it."""
        queue = (namespace, workload.queue)
        until, places = self._known.get(queue, (0.0, {}))
        if time.monotonic() >= until:
            until, places = await self._ask(namespace, workload.queue)
            self._known[queue] = (until, places)
        return places.get(workload.name)

    async def _ask(self, namespace: str, queue: str) -> tuple[float, dict[str, int]]:
        """Until when the answer is good, and the place of each Workload that waits."""
        try:
            answer = await self._cluster.raw(QUEUE_VISIBILITY.path(namespace, queue, "pendingworkloads"))
            found = {
                item["metadata"]["name"]: item["positionInClusterQueue"] + 1 for item in json.loads(answer)["items"]
            }
        except ClusterError as error:
            pause = FRESH_SECONDS if error.retryable else _PAUSE_SECONDS
            _log.info("Kueue does not tell the places in the queue %s/%s: %s", namespace, queue, error)
            return time.monotonic() + pause, {}
        return time.monotonic() + FRESH_SECONDS, found
