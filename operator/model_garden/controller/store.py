"""What the watches have seen: TrainingJobs, and their Jobs and Pods trimmed to what is needed, in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

from model_garden.builders.plan import STEPS
from model_garden.cluster import Change, Snapshot
from model_garden.contract import names
from model_garden.controller.observed import GONE

Object = dict[str, Any]


class Key(NamedTuple):
    """Namespace and name of an object."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def key_of(item: Object) -> Key:
    """The key of an object."""
    return Key(item["metadata"]["namespace"], item["metadata"]["name"])


class Store:
    """The caches. ``wake`` is called with a TrainingJob's key whenever something of it changed.

    The answer to a write arrives before the watch reports it, and before earlier changes: only a newer version replaces
    the one in the store, and wakes. The operator's own writes (``written``) do not wake.
    """

    def __init__(self, wake: Callable[[Key], None]) -> None:
        self._wake = wake
        self._training_jobs: dict[Key, Object] = {}
        self._jobs: dict[Key, Object] = {}
        self._pods: dict[Key, dict[str, Object]] = defaultdict(dict)  # by their Job, then by name
        self._workloads: dict[Key, Object] = {}  # by their Job
        self.kueue_served = False
        self._by_job: dict[Key, set[Key]] = defaultdict(set)

    def __iter__(self) -> Iterator[Object]:
        return iter(list(self._training_jobs.values()))

    def training_job(self, key: Key) -> Object | None:
        """The whole TrainingJob."""
        return self._training_jobs.get(key)

    def job(self, key: Key) -> Object | None:
        """A Job, by its own key."""
        return self._jobs.get(key)

    def workload(self, job: Key) -> Object | None:
        """The Workload that Kueue keeps for the Job of a name."""
        return self._workloads.get(job)

    def pods(self, job: Key) -> list[Object]:
        """The pods of the Job of a name, with the last state of those that are gone until ``forget_gone``."""
        return list(self._pods.get(job, {}).values())

    def put_training_job(self, item: Object, *, written: bool = False) -> None:
        """A TrainingJob was seen, or written. The answer to a write does not restore one that is gone."""
        key = key_of(item)
        known = self._training_jobs.get(key)
        if not _newer(item, known) or (written and not _same(item, known)):
            return
        item["metadata"].pop("managedFields", None)
        self._training_jobs[key] = item
        for job in job_keys(key):
            self._by_job[job].add(key)
        if not written:
            self._wake(key)

    def remove_training_job(self, key: Key) -> None:
        """A TrainingJob is gone."""
        if self._training_jobs.pop(key, None) is None:
            return
        for job in job_keys(key):
            self._by_job[job].discard(key)
            if not self._by_job[job]:
                del self._by_job[job]
            self.forget_gone(job)
        self._wake(key)

    def training_job_keys(self, namespace: str | None) -> set[Key]:
        """The TrainingJobs of a namespace, of all namespaces for None."""
        return {key for key in self._training_jobs if namespace in (None, key.namespace)}

    def put_job(self, item: Object, *, written: bool = False) -> None:
        """A Job was seen, or written."""
        key = key_of(item)
        if _newer(item, self._jobs.get(key)):
            self._jobs[key] = item
            if not written:
                self._wake_owners(key)

    def on_jobs(self, seen: Snapshot | Change, namespace: str | None) -> None:
        """Apply what the watch of Jobs reports."""
        if isinstance(seen, Snapshot):
            present = {key_of(item) for item in seen.items}
            for key in [k for k in self._jobs if k not in present and namespace in (None, k.namespace)]:
                self._remove_job(key)
            for item in seen.items:
                self.put_job(item)
        elif seen.type == "DELETED":
            current = self._jobs.get(key_of(seen.object))
            if current and current["metadata"]["uid"] == seen.object["metadata"]["uid"]:
                self._remove_job(key_of(seen.object))
        else:
            self.put_job(seen.object)

    def on_pods(self, seen: Snapshot | Change, namespace: str | None) -> None:
        """Apply what the watch of Pods reports."""
        if isinstance(seen, Snapshot):
            present = {item["metadata"]["uid"] for item in seen.items}
            for known, pods in list(self._pods.items()):
                for pod in list(pods.values()):
                    if pod["metadata"]["uid"] not in present and namespace in (None, known.namespace):
                        self._pod_gone(known, pod)
            for item in seen.items:
                self.put_pod(item)
        elif seen.type == "DELETED":
            if job := _owning_job(seen.object):
                self._pod_gone(job, seen.object)
        else:
            self.put_pod(seen.object)

    def on_workloads(self, seen: Snapshot | Change, namespace: str | None) -> None:
        """Apply what the watch of Workloads reports."""
        if isinstance(seen, Snapshot):
            present = {item["metadata"]["uid"] for item in seen.items}
            for job, known in list(self._workloads.items()):
                if known["metadata"]["uid"] not in present and namespace in (None, job.namespace):
                    self._remove_workload(job, known)
            for item in seen.items:
                self.put_workload(item)
        elif seen.type != "DELETED":
            self.put_workload(seen.object)
        elif owner := _owning_job(seen.object):
            self._remove_workload(owner, seen.object)

    def put_workload(self, item: Object, *, written: bool = False) -> None:
        """A Workload was seen, or written."""
        job = _owning_job(item)
        if job and _newer(item, self._workloads.get(job)):
            self._workloads[job] = item
            if not written:
                self._wake_owners(job)

    def _remove_workload(self, job: Key, item: Object) -> None:
        if _same(item, self._workloads.get(job)):
            del self._workloads[job]
            self._wake_owners(job)

    def put_pod(self, pod: Object) -> None:
        """A Pod was seen, or written."""
        job = _owning_job(pod)
        if job is None:
            return
        pods = self._pods[job]
        if _newer(pod, pods.get(pod["metadata"]["name"])):
            pods[pod["metadata"]["name"]] = pod
            self._wake_owners(job)

    def forget_gone(self, job: Key, recorded: Collection[str] | None = None) -> None:
        """Drop the pods that no longer exist: all, or those of the names whose end the status holds."""
        pods = self._pods.get(job, {})
        for name in [name for name, pod in pods.items() if pod.get(GONE)]:
            if recorded is None or name in recorded:
                del pods[name]
        if not pods:
            self._pods.pop(job, None)

    def _remove_job(self, key: Key) -> None:
        del self._jobs[key]
        self._wake_owners(key)

    def _pod_gone(self, job: Key, pod: Object) -> None:
        if job in self._by_job:
            self._pods[job][pod["metadata"]["name"]] = pod | {GONE: True}
        elif job in self._pods:
            self._pods[job].pop(pod["metadata"]["name"], None)
            self.forget_gone(job)
        self._wake_owners(job)

    def _wake_owners(self, job: Key) -> None:
        for key in self._by_job.get(job, ()):
            self._wake(key)


def job_keys(training_job: Key) -> list[Key]:
    """The Jobs that a TrainingJob may have: one a step."""
    return [Key(training_job.namespace, names.job_name(training_job.name, step)) for step in STEPS]


def _owning_job(item: Object) -> Key | None:
    """The Job that owns a Pod or a Workload, or owned it: the pod of a Job that was deleted with ``--cascade=orphan``
    has no owner, and writes on."""
    metadata = item["metadata"]
    for owner in metadata.get("ownerReferences") or ():
        if owner["kind"] == "Job":
            return Key(metadata["namespace"], owner["name"])
    name = (metadata.get("labels") or {}).get(names.JOB_NAME)
    return Key(metadata["namespace"], name) if name and not metadata.get("ownerReferences") else None


def _newer(item: Object, known: Object | None) -> bool:
    """Whether ``item`` is a newer version of what is known, or another object; versions are ordered numbers."""
    if known is None or not _same(item, known):
        return True
    return int(item["metadata"]["resourceVersion"]) > int(known["metadata"]["resourceVersion"])


def _same(item: Object, known: Object | None) -> bool:
    """Whether ``item`` is some version of what is known."""
    return known is not None and known["metadata"]["uid"] == item["metadata"]["uid"]
