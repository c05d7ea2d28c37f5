"""Write a TrainingJob's status, and an Event for each change of its phase."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from model_garden.cluster import TRAINING_JOBS, Cluster, ClusterError
from model_garden.contract.status import TrainingJobStatus
from model_garden.controller.events import EventPoster
from model_garden.controller.status import finished, message, reason, urgent
from model_garden.controller.store import Store, key_of

_log = logging.getLogger(__name__)

Object = dict[str, Any]

WARNED_OF = ("AdmittedNotRunning", "KueueNotInstalled", "NoQueue")


class StatusWriter:
    """Writes what changed in a status: at once if it is urgent, else at most once in ``progress_seconds``.

    Each function in ``on_end`` is called with each TrainingJob whose end was written: an end is written once.
    """

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        events: EventPoster,
        progress_seconds: float,
        on_end: Sequence[Callable[[Object], None]],
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._events = events
        self._on_end = on_end
        self._progress_seconds = progress_seconds
        self._written: dict[str, float] = {}

    async def write_in_time(
        self, resource: Object, before: TrainingJobStatus, after: TrainingJobStatus
    ) -> float | None:
        """Write now and return None, or return in how many seconds to write."""
        since = time.monotonic() - self._written.get(resource["metadata"]["uid"], float("-inf"))
        if urgent(before, after) or since >= self._progress_seconds:
            await self.write(resource, before, after)
            return None
        return self._progress_seconds - since if after != before else None

    async def write(self, resource: Object, before: TrainingJobStatus, after: TrainingJobStatus) -> None:
        """Patch the status, unless nothing changes.

        The patch carries the version that was read: a control annotation set since, or a new TrainingJob of the same
        name, must be read first.

        Raises:
            ClusterError: reason ``Conflict`` when the TrainingJob has changed since it was read; to be tried again.
        """
        key, uid = key_of(resource), resource["metadata"]["uid"]
        change = merge_patch(resource.get("status") or {}, after.to_dict())
        if not change:
            return
        try:
            body = {"metadata": {"resourceVersion": resource["metadata"]["resourceVersion"]}, "status": change}
            updated = await self._cluster.patch(TRAINING_JOBS, key.name, body, key.namespace, subresource="status")
        except ClusterError as error:
            if error.status != 404:
                raise
            self._store.remove_training_job(key)
            return
        self._written[uid] = time.monotonic()
        self._store.put_training_job(updated, written=True)
        self._report(resource, before, after)
        if finished(after) and not finished(before):
            self._call_on_end(updated)

    def _report(self, resource: Object, before: TrainingJobStatus, after: TrainingJobStatus) -> None:
        """Post an Event for a change of phase, and for a reason of which people must be warned."""
        why = message(after)
        if after.phase != before.phase:
            _log.info("%s -> %s: %s", before.phase or "new", after.phase, why)
            self._events.post(resource, str(after.phase), why, "Warning" if after.phase == "Failed" else "Normal")
        if reason(after) in WARNED_OF and reason(before) != reason(after):
            self._events.post(resource, reason(after), why, "Warning")

    def _call_on_end(self, job: Object) -> None:
        """A fault of these functions must not be one of the job, whose end is written."""
        for function in self._on_end:
            try:
                function(job)
            except Exception:
                _log.exception("an unexpected error kept the end of the job from being told")

    def forget(self, uid: str) -> None:
        """Drop what is kept of a TrainingJob that is finished or gone."""
        self._written.pop(uid, None)

    def uids(self) -> set[str]:
        """The TrainingJobs of which something is kept."""
        return set(self._written)


def merge_patch(before: Object, after: Object) -> Object:
    """The RFC 7386 patch that turns one document into the other; empty if they are equal."""
    change: Object = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            if nested := merge_patch(old, value):
                change[key] = nested
        elif value != old:
            change[key] = value
    return change
