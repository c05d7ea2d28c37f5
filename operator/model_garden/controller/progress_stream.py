"""Follow the trainers' logs, one task a pod, fold their events, and wake the job when one arrives."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from model_garden.cluster import Cluster, ClusterError, follow_log
from model_garden.contract.names import TRAINER_CONTAINER
from model_garden.contract.progress import Event, ProgressEvent, parse_event
from model_garden.contract.status import TrainingJobStatus
from model_garden.controller.store import Key
from model_garden.controller.trainer_events import Training, fold, recorded

_log = logging.getLogger(__name__)

LOG_END_SECONDS = 20
"""How long to wait for the log of an ended pod: its node may be gone, and the log with it."""
TAIL_LINES = 20
_RETRY_SECONDS = 3
_TAIL_CHARACTERS = 500


@dataclass
class _Stream:
    task: asyncio.Task[None]
    ended: float | None = None
    """When the end of the pod was first seen."""
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))


@dataclass
class _Run:
    """What is known of one TrainingJob's training, and the streams it comes from, by pod."""

    training: Training
    streams: dict[str, _Stream] = field(default_factory=dict)


class ProgressStreams:
    """The streams of all running jobs. Their key is the uid, so that a new job of the same name starts empty.

    ``wake`` is called for what is written at once: a pod's first figures, and the end of its log. ``wake_later`` is
    called for all later figures.
    """

    def __init__(self, cluster: Cluster, wake: Callable[[Key], None], wake_later: Callable[[Key], None]) -> None:
        self._cluster = cluster
        self._wake = wake
        self._wake_later = wake_later
        self._runs: dict[str, _Run] = {}

    def training(self, uid: str, status: TrainingJobStatus) -> Training:
        """What the trainers of a job have reported; from its status when this process has not followed it."""
        return self._run(uid, status).training

    def follow(self, uid: str, key: Key, pod: str, status: TrainingJobStatus) -> None:
        """Read a started pod's log from its start to its end, unless that is under way or done."""
        run = self._run(uid, status)
        if pod not in run.streams:
            task = asyncio.create_task(self._read(run, key, pod), name=f"log of {key.namespace}/{pod}")
            run.streams[pod] = _Stream(task)

    def is_behind(self, uid: str, pod: str) -> bool:
        """Whether the log of a pod that has ended is still being read, and can be waited for."""
        run = self._runs.get(uid)
        stream = run.streams.get(pod) if run else None
        if stream is None or stream.task.done():
            return False
        if stream.ended is None:
            stream.ended = time.monotonic()
        return time.monotonic() - stream.ended < LOG_END_SECONDS

    def tail(self, uid: str, pod: str | None) -> list[str]:
        """The last lines of a followed pod's log that are not events."""
        run = self._runs.get(uid)
        stream = run.streams.get(pod) if run and pod else None
        return list(stream.tail) if stream else []

    def forget(self, uid: str) -> None:
        """Stop following a job that is finished or gone."""
        if run := self._runs.pop(uid, None):
            for stream in run.streams.values():
                stream.task.cancel()

    async def close(self) -> None:
        """Stop following all jobs."""
        tasks = [stream.task for run in self._runs.values() for stream in run.streams.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def uids(self) -> set[str]:
        """The jobs that are followed."""
        return set(self._runs)

    def _run(self, uid: str, status: TrainingJobStatus) -> _Run:
        if uid not in self._runs:
            self._runs[uid] = _Run(recorded(status))
        return self._runs[uid]

    async def _read(self, run: _Run, key: Key, pod: str) -> None:
        """A failure here costs figures, never the job."""
        try:
            while not await self._read_once(run, key, pod):
                await asyncio.sleep(_RETRY_SECONDS)
        finally:
            self._wake(key)

    async def _read_once(self, run: _Run, key: Key, pod: str) -> bool:
        """Whether the log was read to its end. A refusal may pass: an API server that starts has not read the roles."""
        wake, warned = self._wake, False
        run.streams[pod].tail.clear()
        try:
            async for line in follow_log(self._cluster, pod, key.namespace, container=TRAINER_CONTAINER):
                event = parse_event(line)
                if event is not None and len(line) <= _most_characters(event):
                    run.training = fold(run.training, pod, event)
                    wake(key)
                    if isinstance(event, ProgressEvent):
                        wake = self._wake_later
                elif line.strip():
                    run.streams[pod].tail.append(line[:_TAIL_CHARACTERS])
                    if event is not None and not warned:
                        _log.warning("pod %s reports events of %d characters: too long for the status", pod, len(line))
                        warned = True
        except ClusterError as error:
            _log.warning("the log of pod %s cannot be followed, again in %d s: %s", pod, _RETRY_SECONDS, error)
            return False
        return True


def _most_characters(event: Event) -> int:
    """The length of a line of which something goes into the status, which has to stay below the 1.5 MiB of etcd."""
    return 8 * 1024 if isinstance(event, ProgressEvent) else 16 * 1024
