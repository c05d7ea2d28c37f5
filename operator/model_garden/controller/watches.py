"""Keep the caches of Jobs, Pods and Workloads: one list and watch of each, trimmed on arrival."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from model_garden.cluster import (
    JOBS,
    PODS,
    TRAINING_JOBS,
    WORKLOADS,
    Change,
    Cluster,
    ClusterError,
    Resource,
    Snapshot,
    list_and_watch,
)
from model_garden.contract.names import LABEL_JOB
from model_garden.controller.kueue import trim_workload
from model_garden.controller.observed import trim_job, trim_pod
from model_garden.controller.store import Store, key_of

_log = logging.getLogger(__name__)

Object = dict[str, Any]
Sink = Callable[[Snapshot | Change, str | None], None]

_RETRY_SECONDS = 3
_KUEUE_SECONDS = 10
"""Between two looks for Kueue in a cluster without it."""
_RELIST_SECONDS = 5
"""How long the items of one list may take to arrive."""


async def watch_children(cluster: Cluster, store: Store, namespaces: tuple[str, ...], seen_all: asyncio.Event) -> None:
    """Watch until canceled; ``seen_all`` is set once the first list of each has arrived."""
    places = namespaces or (None,)
    first = [asyncio.Event() for _ in range(3 * len(places))]
    arrived = iter(first)
    async with asyncio.TaskGroup() as group:
        for place in places:
            group.create_task(_watch(cluster, JOBS, place, trim_job, store.on_jobs, next(arrived)))
            group.create_task(_watch(cluster, PODS, place, trim_pod, store.on_pods, next(arrived)))
            group.create_task(_watch_workloads(cluster, store, place, next(arrived)))
        for event in first:
            await event.wait()
        seen_all.set()


async def forget_vanished(
    cluster: Cluster, store: Store, namespaces: tuple[str, ...], every: float, relisted: asyncio.Event
) -> None:
    """Remove TrainingJobs whose deletion no event reported, until canceled.

    After a gap in its watch kopf lists them again (``relisted``) without reporting which are gone. An empty list does
    not set ``relisted``, so this also runs ``every`` so many seconds.
    """
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(every):
                await relisted.wait()
                await asyncio.sleep(_RELIST_SECONDS)
        relisted.clear()
        try:
            for place in namespaces or (None,):
                await forget_vanished_once(cluster, store, place)
        except ClusterError as error:
            _log.warning("TrainingJobs cannot be listed, again in %d s: %s", every, error)


async def forget_vanished_once(cluster: Cluster, store: Store, namespace: str | None) -> None:
    """Remove the TrainingJobs of the store that the API server no longer has."""
    known = store.training_job_keys(namespace)  # before the list: what is created meanwhile stays
    listed = await cluster.list(TRAINING_JOBS, namespace, trim=lambda item: {"metadata": item["metadata"]})
    for key in known - {key_of(item) for item in listed.items}:
        store.remove_training_job(key)


async def _watch_workloads(cluster: Cluster, store: Store, namespace: str | None, arrived: asyncio.Event) -> None:
    """Watch until canceled. A cluster may have no Kueue, or get it later; ``arrived`` is set in any case."""
    while True:
        try:
            async for seen in list_and_watch(cluster, WORKLOADS, namespace, trim=trim_workload):
                store.kueue_served = True
                store.on_workloads(seen, namespace)
                arrived.set()
        except ClusterError as error:
            if error.status == 404:
                store.kueue_served = False
                store.on_workloads(Snapshot([]), namespace)
            else:
                _log.warning("workloads of Kueue cannot be watched, again in %d s: %s", _KUEUE_SECONDS, error)
            arrived.set()
            await asyncio.sleep(_KUEUE_SECONDS)


async def _watch(
    cluster: Cluster,
    resource: Resource,
    namespace: str | None,
    trim: Callable[[Object], Object],
    sink: Sink,
    arrived: asyncio.Event,
) -> None:
    """Watch until canceled, and retry after any refusal: RBAC may be granted later."""
    while True:
        try:
            async for seen in list_and_watch(cluster, resource, namespace, labels=LABEL_JOB, trim=trim):
                sink(seen, namespace)
                arrived.set()
        except ClusterError as error:
            _log.warning("%s cannot be watched, again in %d s: %s", resource.plural, _RETRY_SECONDS, error)
            await asyncio.sleep(_RETRY_SECONDS)
