"""``python -m model_garden.controller``: settings, leader, caches, workers, and kopf, until asked to end."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from model_garden.builders.settings import Settings, from_environment
from model_garden.cluster import Cluster, ClusterError, connect
from model_garden.controller import log
from model_garden.controller.events import EventPoster
from model_garden.controller.handlers import watch_training_jobs
from model_garden.controller.leader import Leader, LostLease
from model_garden.controller.metrics import Metrics
from model_garden.controller.progress_stream import ProgressStreams
from model_garden.controller.queue import WorkQueue
from model_garden.controller.reconcile import Reconciler
from model_garden.controller.server import serve
from model_garden.controller.store import Key, Store
from model_garden.controller.watches import forget_vanished, watch_children

_log = logging.getLogger(__name__)


def main() -> None:
    """Run the operator; exit code 2 for settings that cannot be read, 1 when the cluster or the Lease is lost."""
    try:
        settings = from_environment()
    except ValueError as error:
        sys.exit(f"error: {error}")
    log.set_up(settings)
    try:
        asyncio.run(_run(settings))
    except (ClusterError, LostLease) as error:
        sys.exit(f"error: {error}")
    except Exception as error:
        _log.critical("the operator stopped on an unexpected error", exc_info=True)
        sys.exit(f"error: unexpected {type(error).__name__}: {error}; the log has its traceback")


async def _run(settings: Settings) -> None:
    metrics = Metrics()
    server = await serve(metrics, settings.port)
    try:
        async with await connect() as cluster:
            cluster.on_request = metrics.count_request
            if settings.leader_election:
                await _lead(cluster, settings, metrics)
            else:
                await _operate(cluster, settings, metrics)
    finally:
        await server.cleanup()


async def _lead(cluster: Cluster, settings: Settings, metrics: Metrics) -> None:
    leader = Leader(cluster, settings.pod_name, settings.pod_namespace)
    if not await _acquire(leader):
        return
    keeping = asyncio.create_task(leader.keep())
    working = asyncio.create_task(_operate(cluster, settings, metrics))
    await asyncio.wait((keeping, working), return_when=asyncio.FIRST_COMPLETED)
    if keeping.done():
        working.cancel()
        await asyncio.wait((working,))
        raise keeping.exception() or LostLease()
    keeping.cancel()
    await leader.release()
    working.result()


async def _acquire(leader: Leader) -> bool:
    """Wait for the Lease; False if the process is asked to end before. Later signals are kopf's to hear."""
    loop = asyncio.get_running_loop()
    acquiring = asyncio.create_task(leader.acquire())
    loop.add_signal_handler(signal.SIGTERM, acquiring.cancel)  # a container's first process ignores it otherwise
    try:
        await asyncio.wait((acquiring,))
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        acquiring.cancel()
    if acquiring.cancelled():
        return False
    acquiring.result()
    return True


async def _operate(cluster: Cluster, settings: Settings, metrics: Metrics) -> None:
    """Watch and reconcile; the first part that ends, ends all."""
    queue: WorkQueue[Key] = WorkQueue()
    store = Store(wake=queue.add)
    events = EventPoster(cluster, settings.pod_name)
    streams = ProgressStreams(cluster, queue.add, lambda key: queue.add_after(key, settings.progress_seconds))
    reconciler = Reconciler(cluster, store, streams, events, settings)
    metrics.show(store, queue)
    seen_all = asyncio.Event()

    async def work(key: Key) -> float | None:
        log.about.set(str(key))
        with metrics.reconcile_seconds.time(), metrics.reconcile_errors.count_exceptions():
            return await reconciler.reconcile(key)

    async def reconcile_when_seen() -> None:
        await seen_all.wait()
        _log.info("serving TrainingJobs in %s", ", ".join(settings.namespaces) or "all namespaces")
        await queue.run(settings.workers, work)

    posting = asyncio.create_task(events.run())
    parts = [
        posting,
        asyncio.create_task(watch_children(cluster, store, settings.namespaces, seen_all)),
        asyncio.create_task(reconcile_when_seen()),
        asyncio.create_task(forget_vanished(cluster, store, settings.namespaces, settings.resync_seconds)),
        asyncio.create_task(watch_training_jobs(cluster, store, settings.namespaces)),
    ]
    try:
        done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _end([part for part in parts if part is not posting])
        await events.drain()
        await _end([posting])
    for part in done:
        part.result()


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


if __name__ == "__main__":
    main()
