"""The operator's own tasks, which kopf's startup and cleanup handlers start and end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from typing import Any

from model_garden.builders.settings import Settings
from model_garden.cluster import TRAINING_JOBS, Cluster, ClusterError, Resource, connect
from model_garden.controller import log
from model_garden.controller.events import EventPoster
from model_garden.controller.leader import Leader
from model_garden.controller.metrics import Metrics
from model_garden.controller.progress_stream import ProgressStreams
from model_garden.controller.queue import WorkQueue
from model_garden.controller.reconcile import Reconciler
from model_garden.controller.server import serve
from model_garden.controller.store import Key, Store
from model_garden.controller.tracing import JobTracer
from model_garden.controller.watches import forget_vanished, watch_children
from model_garden.controller.webhook import WebhookSender

_log = logging.getLogger(__name__)

CRD_SECONDS = 30
"""The CRD and the operator may be created by one command."""


class Operator:
    """The caches, the queue, and the tasks that use them.

    kopf puts TrainingJobs into ``store`` in every replica. Only the one that holds the Lease watches their Jobs and
    Pods, and reconciles.

    Attributes:
        cluster: the client; from ``start`` on.
        store: what the watches have seen.
        relisted: set by the caller when kopf has listed the TrainingJobs again.
        ended: set when the tasks have ended, by ``stop`` or by an error.

    Raises:
        ValueError: traces are asked for, and their packages are missing.
    """

    cluster: Cluster

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._queue: WorkQueue[Key] = WorkQueue()
        self._metrics = Metrics()
        self._tracer = JobTracer() if settings.otlp_endpoint else None
        self._leads = False
        self._running: asyncio.Task[None] | None = None
        self.store = Store(wake=self._queue.add)
        self.relisted = asyncio.Event()
        self.ended = asyncio.Event()

    async def start(self) -> None:
        """Serve the metrics, connect, wait for the CRD, and start the tasks.

        Raises:
            ClusterError: no cluster is configured, or it does not serve TrainingJobs.
            OSError: the metrics' port is taken.
        """
        self._server = await serve(self._metrics, self._settings.port)
        self.cluster = await connect()
        self.cluster.on_request = self._metrics.count_request
        try:
            await wait_until_served(self.cluster, next(iter(self._settings.namespaces), None))
        except BaseException:
            await self.cluster.close()
            raise
        self._running = asyncio.create_task(self._lead_and_work(), name="operator")
        self._running.add_done_callback(lambda _: self.ended.set())

    async def stop(self) -> None:
        """End the tasks."""
        assert self._running
        self._running.cancel()
        await asyncio.wait((self._running,))
        await self.cluster.close()
        await self._server.cleanup()

    def raise_if_failed(self) -> None:
        """Raise the error that ended the tasks, unless ``stop`` did: LostLease, or an unexpected one."""
        if self._running and not self._running.cancelled():
            self._running.result()

    def health(self) -> dict[str, Any]:
        """Whether this replica leads, how many TrainingJobs it knows, and how many wait to be reconciled."""
        known = self.store.training_job_keys(None)
        return {"leads": self._leads, "trainingJobs": len(known), "queued": len(self._queue)}

    async def _lead_and_work(self) -> None:
        """Wait for the Lease and hold it while the other tasks run."""
        if not self._settings.leader_election:
            await self._work([])
            return
        leader = Leader(self.cluster, self._settings.pod_name, self._settings.pod_namespace)
        await leader.acquire()
        try:
            await self._work([asyncio.create_task(leader.keep())])
        finally:
            await leader.release()

    async def _work(self, others: Iterable[asyncio.Task[None]]) -> None:
        """Watch and reconcile. The first task that ends, of these or the ``others``, ends all."""
        settings = self._settings
        events = EventPoster(self.cluster, settings.pod_name)
        streams = ProgressStreams(
            self.cluster, self._queue.add, lambda key: self._queue.add_after(key, settings.progress_seconds)
        )
        webhooks = WebhookSender(self.cluster, events, local=settings.webhook_local_addresses)
        on_end = [webhooks.job_ended] if settings.webhooks else []
        on_end += [self._tracer.job_ended] if self._tracer else []
        reconciler = Reconciler(self.cluster, self.store, streams, events, settings, on_end)
        seen_all = asyncio.Event()
        self._leads = True
        self._metrics.show(self.store, self._queue)
        posting = asyncio.create_task(events.run())
        tasks = [
            *others,
            asyncio.create_task(watch_children(self.cluster, self.store, settings.namespaces, seen_all)),
            asyncio.create_task(self._reconcile_when(seen_all, reconciler)),
            asyncio.create_task(
                forget_vanished(self.cluster, self.store, settings.namespaces, settings.resync_seconds, self.relisted)
            ),
        ]
        try:
            done, _ = await asyncio.wait((posting, *tasks), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancel(tasks)
            await streams.close()
            await webhooks.close()
            if self._tracer:
                await self._tracer.close()
            await events.drain()
            await _cancel([posting])
        for task in done:
            task.result()

    async def _reconcile_when(self, seen_all: asyncio.Event, reconciler: Reconciler) -> None:
        async def work(key: Key) -> float | None:
            log.about.set(str(key))
            with self._metrics.reconcile_seconds.time(), self._metrics.reconcile_errors.count_exceptions():
                return await reconciler.reconcile(key)

        await seen_all.wait()
        _log.info("serving TrainingJobs in %s", ", ".join(self._settings.namespaces) or "all namespaces")
        await self._queue.run(self._settings.workers, work)


async def wait_until_served(
    cluster: Cluster, namespace: str | None, resource: Resource = TRAINING_JOBS, seconds: int = CRD_SECONDS
) -> None:
    """Wait until the API server lists the resource: kopf would never see a kind whose CRD is created later.

    Raises:
        ClusterError: it does not list the resource after so many seconds, or does not allow it.
    """
    for left in reversed(range(seconds)):
        try:
            await cluster.raw(f"{resource.path(namespace)}?limit=1")
            return
        except ClusterError as error:
            if left and (error.status == 404 or error.retryable):
                _log.warning("waiting until the API server serves %s: %s", resource.plural, error)
            elif error.status == 404:
                why = f"the API server does not serve {resource.plural} of {resource.api_version}"
                fix = "install the CRD: kubectl apply -f manifests/crd.yaml"
                raise ClusterError(404, error.reason, f"{why}; {fix}") from error
            else:
                raise
        await asyncio.sleep(1)


async def _cancel(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
