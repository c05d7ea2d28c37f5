"""Post Kubernetes Events about TrainingJobs: what ``kubectl describe`` shows. Posting never delays or fails a job."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any, Literal

from model_garden.cluster import EVENTS, Cluster, ClusterError
from model_garden.contract import names
from model_garden.contract.time import timestamp

_log = logging.getLogger(__name__)

REPORTER = "model-garden"
_MAX_WAITING = 1000
_MAX_MESSAGE = 1024
_DRAIN_SECONDS = 2.0


class EventPoster:
    """A queue of Events and the task that posts them, one after the other."""

    def __init__(self, cluster: Cluster, instance: str) -> None:
        self._cluster = cluster
        self._instance = instance
        self._waiting: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_MAX_WAITING)

    def post(self, about: dict[str, Any], reason: str, message: str, kind: Literal["Normal", "Warning"]) -> None:
        """Post an Event soon; when a thousand wait already it is dropped, with a line in the log."""
        event = build_event(about, reason, message, kind, self._instance, datetime.now(UTC), time.time_ns())
        try:
            self._waiting.put_nowait(event)
        except asyncio.QueueFull:
            _log.warning("an Event is dropped, too many wait: %s: %s", reason, message)

    async def run(self) -> None:
        """Post until canceled."""
        while True:
            event = await self._waiting.get()
            try:
                await self._cluster.create(EVENTS, event)
            except ClusterError as error:
                _log.warning("an Event is not posted (%s): %s", event["reason"], error)
            finally:
                self._waiting.task_done()

    async def drain(self) -> None:
        """Wait until ``run`` has posted what waits, at most two seconds: the process is ending."""
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._waiting.join()
        except TimeoutError:
            _log.warning("the process ends and about %d Events are not posted", self._waiting.qsize())


def build_event(
    about: dict[str, Any], reason: str, message: str, kind: str, instance: str, now: datetime, unique: int
) -> dict[str, Any]:
    """The Event as the API server takes it; ``unique`` makes its name so."""
    metadata = about["metadata"]
    stamp = timestamp(now)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{names.shortened(metadata['name'], 230)}.{unique:x}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": kind,
        "reason": reason,
        "message": message if len(message) <= _MAX_MESSAGE else f"{message[: _MAX_MESSAGE - 1]}…",
        "source": {"component": REPORTER},
        "reportingComponent": REPORTER,
        "reportingInstance": instance,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
