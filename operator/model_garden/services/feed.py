"""One watch for a caller and namespace, shared by every page, stream and list that shows its TrainingJobs.

A follower holds no queue of its own: it reads from the feed's latest changes, and gets a snapshot when it fell behind
them. Feeds share each state of a job. Memory is therefore the same for one follower and for hundreds, and grows with
the jobs, not with the callers who see them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from weakref import WeakValueDictionary

from model_garden.cluster import (
    TRAINING_JOBS,
    Change,
    Cluster,
    ClusterError,
    Listing,
    Object,
    Snapshot,
    list_and_watch,
)
from model_garden.contract.names import KIND
from model_garden.services.errors import NotFound
from model_garden.services.job_view import has_ended

KEPT_CHANGES = 256
"""Changes of a namespace that a follower who was away may still get one by one."""
HEARTBEAT_SECONDS = 15.0
LINGER_SECONDS = 60.0
"""How long a watch continues after its last follower left, so that a follower who returns gets the missed events."""
KEPT_LISTS = 8
"""Lists of a namespace whose next pages may still be asked for. They share the states of jobs."""
BEHIND_SECONDS = 0.5
"""How long a list waits for a feed that has not yet seen all the jobs there are."""


class Feed:
    """The TrainingJobs of a namespace as one caller sees them, and what changed of late."""

    def __init__(self, cluster: Cluster, namespace: str, share: Callable[[Object], Object]) -> None:
        self.version = "0"
        """``metadata.resourceVersion`` of the latest change."""
        self._share = share
        self._cluster = cluster
        self._namespace = namespace
        self._jobs: dict[str, Object] = {}
        self._changes: deque[Change] = deque(maxlen=KEPT_CHANGES)
        self._lists: dict[str, Listing] = {}
        self._count = 0
        self._moved = asyncio.Event()
        self._listed = asyncio.Event()
        self._failure: Exception | None = None
        self._task = asyncio.create_task(self._watch())

    @property
    def failed(self) -> bool:
        """Whether the watch has ended because the API server refused it."""
        return self._failure is not None

    async def close(self) -> None:
        """End the watch."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def ready(self) -> None:
        """Wait until the jobs are known.

        Raises:
            ClusterError: the API server refused.
        """
        await self._listed.wait()
        if self._failure:
            raise self._failure

    async def listing(self, count: int, version: str) -> Listing | None:
        """All jobs, once there are ``count`` of them; None if the feed does not get there soon.

        Args:
            count: how many jobs the API server has.
            version: ``metadata.resourceVersion`` of the API server's list.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(BEHIND_SECONDS):
                while not self.failed:
                    if len(self._jobs) == count:
                        return self._kept(max(version, self.version, key=int))
                    await self._moved.wait()
        return None

    def _kept(self, version: str) -> Listing:
        self._lists.pop(version, None)  # the API server's list may have been ahead of this feed
        self._lists[version] = listing = Listing(list(self._jobs.values()), version)
        if len(self._lists) > KEPT_LISTS:
            del self._lists[next(iter(self._lists))]
        return listing

    def earlier(self, version: str) -> Listing | None:
        """The jobs as they were in a list that was read before; None if it is no longer known."""
        return self._lists.get(version)

    async def follow(self, after: str | None = None) -> AsyncIterator[Snapshot | Change | None]:
        """A snapshot, then every change, for ever; another snapshot when changes were missed; None as a heartbeat.

        Args:
            after: ``metadata.resourceVersion`` of the last change that the follower saw before. Where it is still
                known, the changes since then take the place of the first snapshot.

        Raises:
            ClusterError: the API server refused.
        """
        await self.ready()
        known = [change.object["metadata"]["resourceVersion"] for change in self._changes]
        place: int | None = None  # the number of changes that the follower has seen, of all there ever were
        if after in known:
            place = self._count - known[::-1].index(after)
        while True:
            if place is None or place < self._count - len(self._changes):
                place = self._count
                yield Snapshot(list(self._jobs.values()))
            while self._count - len(self._changes) <= place < self._count:
                change = self._changes[place - self._count]
                place += 1
                yield change
            if self._failure:
                raise self._failure
            if place == self._count:
                moved = self._moved
                try:
                    await asyncio.wait_for(moved.wait(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    yield None

    async def _watch(self) -> None:
        try:
            async for seen in list_and_watch(self._cluster, TRAINING_JOBS, self._namespace, trim=self._share):
                for change in self._since(seen.items) if isinstance(seen, Snapshot) else [seen]:
                    self._add(change)
                self._listed.set()
        except Exception as failure:  # each follower raises it
            self._failure = failure
        finally:
            self._listed.set()
            self._moved.set()

    def _since(self, jobs: list[Object]) -> list[Change]:
        """What changed until a new list, as changes; the first list is none."""
        now = {job["metadata"]["uid"]: job for job in jobs}
        if not self._listed.is_set():
            self._jobs = now
            return []
        gone = [Change("DELETED", job) for uid, job in self._jobs.items() if uid not in now]
        changed = [job for uid, job in now.items() if not same_version(job, self._jobs.get(uid))]
        return gone + [Change("MODIFIED", job) for job in changed]

    def _add(self, change: Change) -> None:
        uid = change.object["metadata"]["uid"]
        if change.type == "DELETED":
            self._jobs.pop(uid, None)
        else:
            self._jobs[uid] = change.object
        self.version = max(self.version, change.object["metadata"]["resourceVersion"], key=int)
        self._changes.append(change)
        self._count += 1
        self._moved.set()
        self._moved = asyncio.Event()


class _State(dict[str, Any]):
    """A job in one state. Unlike a plain dict it can be referenced weakly."""

    __slots__ = ("__weakref__",)


class Feeds:
    """The feeds in use, one for each caller and namespace."""

    def __init__(self) -> None:
        self._states: WeakValueDictionary[tuple[str, str], _State] = WeakValueDictionary()
        self._feeds: dict[tuple[str, str], Feed] = {}
        self._followers: dict[Feed, int] = {}
        self._closing: dict[Feed, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def open(self, cluster: Cluster, namespace: str, identity: str) -> AsyncIterator[Feed]:
        """The feed of a namespace for a caller; callers of the same ``identity`` share it.

        Raises:
            ClusterError: the API server refused.
        """
        key = (identity, namespace)
        feed = self._feeds.get(key)
        if feed is None or feed.failed:
            feed = self._feeds[key] = Feed(cluster, namespace, self._shared)
        self._followers[feed] = self._followers.get(feed, 0) + 1
        if closing := self._closing.pop(feed, None):
            closing.cancel()
        try:
            await feed.ready()
            yield feed
        finally:
            self._followers[feed] -= 1
            if not self._followers[feed]:
                self._closing[feed] = asyncio.create_task(self._close_unused(key, feed))

    async def jobs(self, cluster: Cluster, namespace: str, identity: str, version: str | None = None) -> Listing:
        """All jobs of a namespace, as ``Cluster.list``, from the caller's feed where it has them all.

        The API server lists one job, which shows that the caller may list them now, and how many there are.

        Args:
            cluster: the caller's client.
            namespace: the namespace.
            identity: who the caller is.
            version: the jobs as they were in a list with this ``resourceVersion``.

        Raises:
            ClusterError: the API server refused.
        """
        with suppress(ClusterError):  # the caller may list but not watch; what else is wrong, the list below raises
            async with self.open(cluster, namespace, identity) as feed:
                first = await cluster.page(TRAINING_JOBS, namespace, limit=1)
                if version:
                    found = feed.earlier(version)
                elif first.remaining is None:  # this API server does not count
                    found = None
                else:
                    found = await feed.listing(len(first.items) + first.remaining, first.resource_version)
                if found:
                    return found
        return await cluster.list(TRAINING_JOBS, namespace, version=version)

    def _shared(self, job: Object) -> Object:
        """The one copy of this state of a job."""
        job["metadata"].pop("managedFields", None)
        key = (job["metadata"]["uid"], job["metadata"]["resourceVersion"])
        return self._states.setdefault(key, _State(job))

    async def _close_unused(self, key: tuple[str, str], feed: Feed) -> None:
        if not feed.failed:
            await asyncio.sleep(LINGER_SECONDS)
        del self._closing[feed], self._followers[feed]
        if self._feeds.get(key) is feed:
            del self._feeds[key]
        await feed.close()


async def job_changes(feed: Feed, job: Object, after: str | None = None) -> AsyncIterator[Change | None]:
    """The job as it is, then each change until it has ended or was deleted; None as a heartbeat.

    Args:
        feed: the feed of its namespace.
        job: the job.
        after: ``metadata.resourceVersion`` of the last state that the follower saw; that one does not come again.
    """
    uid = job["metadata"]["uid"]
    async for seen in feed.follow(after):
        if seen is None:
            yield None
            continue
        change = _in_snapshot(seen, job) if isinstance(seen, Snapshot) else seen
        if change.object["metadata"]["uid"] != uid:
            continue
        if change.type == "DELETED" or change.object["metadata"]["resourceVersion"] != after:
            yield change
        if change.type == "DELETED" or has_ended(change.object):
            return


def _in_snapshot(snapshot: Snapshot, job: Object) -> Change:
    """The state of ``job`` in a snapshot; it was deleted where it is not there."""
    found = [item for item in snapshot.items if item["metadata"]["uid"] == job["metadata"]["uid"]]
    return Change("MODIFIED", found[0]) if found else Change("DELETED", job)


async def job_states(feed: Feed, job: Object) -> AsyncIterator[Object]:
    """The job as it is and after each change, until it has ended, as ``queries.watch_job`` without a watch of its own.

    Raises:
        NotFound: it was deleted meanwhile.
        ClusterError: the API server refused.
    """
    async for change in job_changes(feed, job):
        if change is None:
            continue
        if change.type == "DELETED":
            raise NotFound(f"{KIND} {job['metadata']['name']} was deleted")
        yield change.object


def same_version(job: Object, other: Object | None) -> bool:
    """Whether both are the same job in the same state."""
    return other is not None and job["metadata"]["resourceVersion"] == other["metadata"]["resourceVersion"]
