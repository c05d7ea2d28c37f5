"""The level-based loop: read a TrainingJob and its children from the caches, create what is missing, write the status.

A second run changes nothing, and a run may be interrupted anywhere: names are deterministic, the Job carries its owner,
and the status is written last.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from model_garden.builders.plan import Plan, accepted_plan, check, invalid_annotations
from model_garden.builders.plan import plan as plan_of
from model_garden.builders.settings import Settings
from model_garden.cluster import EVENTS, TRAINING_JOBS, Cluster, ClusterError
from model_garden.contract.resource import InvalidResource
from model_garden.contract.status import TrainingJobStatus
from model_garden.controller.children import Children
from model_garden.controller.device_claims import why_unserved
from model_garden.controller.events import EventPoster
from model_garden.controller.gpu_capacity import does_not_fit, gpu_nodes
from model_garden.controller.observed import Facts
from model_garden.controller.progress_stream import ProgressStreams
from model_garden.controller.queue_positions import QueuePositions
from model_garden.controller.status import finished, invalid, next_status, read_status, with_generation
from model_garden.controller.status_writer import StatusWriter
from model_garden.controller.store import Key, Store, key_of
from model_garden.controller.usage import Price
from model_garden.controller.verdict import (
    ENDED,
    Now,
    Observation,
    Verdict,
    awaiting_job_conclusion,
    awaiting_pods,
    judge,
    now_for,
    pods_are_behind,
    seconds_to_overdue,
)

_log = logging.getLogger(__name__)

Object = dict[str, Any]

FIRST_EVENTS_SECONDS = 1.0
_LONGEST_EVENTS_SECONDS = 30.0
_UNSERVED_SECONDS = 5.0
"""Between two looks for a DeviceClass or a claim that is missing, which are not watched."""
QUEUED_SECONDS = 15.0
"""Between two looks at the place of a job that waits in Kueue, since no event tells that others have moved. Behind the
first fifteen it is as many seconds as the place, or each end of a job would write the status of all that wait."""


@dataclass
class Reconciler:
    """All that a reconcile needs; ``reconcile`` is its one entry. ``on_end`` are called with each job that ends."""

    cluster: Cluster
    store: Store
    streams: ProgressStreams
    events: EventPoster
    settings: Settings
    on_end: Sequence[Callable[[Object], None]]

    def __post_init__(self) -> None:
        self._children = Children(self.cluster, self.store, self.settings)
        self._writer = StatusWriter(self.cluster, self.store, self.events, self.settings.progress_seconds, self.on_end)
        self._positions = QueuePositions(self.cluster)
        self._warned: dict[str, set[str]] = {}
        self._reported: dict[str, set[str]] = {}

    async def reconcile(self, key: Key) -> float | None:
        """Advance one TrainingJob. Return in how many seconds to reconcile it again if nothing wakes it before.

        Raises:
            ClusterError: when the cluster refuses a request or does not answer; to be tried again later.
            Exception: for a fault of the operator, after an Event that reports it.
        """
        try:
            return await self._reconcile(key)
        except ClusterError:
            raise
        except Exception as error:
            self._report(key, error)
            raise

    def _report(self, key: Key, error: Exception) -> None:
        """Report an unexpected error once for each TrainingJob and kind of error; the log holds its traceback."""
        resource, kind = self.store.training_job(key), type(error).__name__
        if resource is None or kind in self._reported.setdefault(resource["metadata"]["uid"], set()):
            return
        self._reported[resource["metadata"]["uid"]].add(kind)
        why = f"the operator failed to reconcile the TrainingJob ({kind}: {error}) and will retry; see its log"
        self.events.post(resource, "ReconcileFailed", why, "Warning")

    async def _reconcile(self, key: Key) -> float | None:
        resource = self.store.training_job(key)
        if resource is None or "deletionTimestamp" in resource["metadata"]:
            self._forget_deleted()
            return None
        status, lost = read_status(resource.get("status") or {})
        if lost:
            _log.warning("these fields of the status cannot be read and are written again: %s", ", ".join(lost))
        now = now_for(resource["metadata"]["generation"])
        if finished(status):
            await self._writer.write(resource, status, with_generation(status, now))
            await self._after_the_end(self.store.training_job(key) or resource)
            return None
        try:
            plan = self._plan(resource)
            if plan is None:
                return self.settings.resync_seconds
            self._warn_of_annotations(resource)
            return await self._advance(resource, self._due(resource, plan, status), status, now)
        except InvalidResource as error:
            await self._writer.write(resource, status, invalid(status, error.problems, now))
            await self._after_the_end(self.store.training_job(key) or resource)
            return None

    def _plan(self, resource: Object) -> Plan | None:
        """The plan of a TrainingJob. What was valid when it was created stays valid, so it may be the one of then; None
        if this operator cannot read that either.

        Raises:
            InvalidResource: for a spec that was never valid.
        """
        try:
            return plan_of(resource, self.settings)
        except InvalidResource as error:
            accepted = accepted_plan(resource)
            if accepted is None and not self._children.has_job(resource):
                raise
            if resource["metadata"]["uid"] not in self._warned:
                then = "it goes on as it was accepted" if accepted else "its Job is not changed"
                _log.warning("this operator refuses the spec of the job; %s: %s", then, error)
                self._warned[resource["metadata"]["uid"]] = set()
            return accepted

    def _due(self, resource: Object, plan: Plan, status: TrainingJobStatus) -> Plan:
        """The plan of the step that is due: the preflight, until the status or a training Job shows that it is done."""
        if not plan.needs_preflight or status.preflight_completion_time:
            return plan
        job = self._children.facts(resource, plan).job
        return plan if job and job.owned else replace(plan, step="preflight")

    async def _advance(self, resource: Object, plan: Plan, status: TrainingJobStatus, now: Now) -> float | None:
        facts = await self._act(resource, plan, status, now)
        if facts is None:
            return None
        if pods_are_behind(facts):
            await self._children.refresh_pods(plan)
            facts = self._children.facts(resource, plan)
        waits = awaiting_pods(facts, now) or awaiting_job_conclusion(plan, facts, now)
        if self._logs_are_behind(plan, facts, status) or waits:
            return 1.0  # the end of the log, the pod or the Job wakes the TrainingJob; a lost node sends none
        pause = _UNSERVED_SECONDS if facts.unserved else _until_events(facts, now)
        if facts.job and pause and pause > FIRST_EVENTS_SECONDS:
            facts = await self._why_pending(resource, plan, facts)
        seen = self._observation(plan, facts, status, now)
        if facts.workload and facts.workload.waits:
            seen = replace(seen, position=await self._positions.position(plan.namespace, facts.workload))
        verdict = judge(seen, self.settings.missing_seconds)
        if verdict.reason == "PreflightSucceeded":
            verdict = await self._check_gpu_memory(seen) or verdict
        return await self._conclude(resource, seen, verdict, pause)

    def _observation(self, plan: Plan, facts: Facts, status: TrainingJobStatus, now: Now) -> Observation:
        training, settings = self.streams.training(plan.uid, status), self.settings
        price = Price(settings.gpu_hour_price, settings.currency) if settings.gpu_hour_price else None
        return Observation(plan, facts, training, status, now, kueue_served=self.store.kueue_served, price=price)

    async def _act(self, resource: Object, plan: Plan, status: TrainingJobStatus, now: Now) -> Facts | None:
        """Create, change or cancel the Job. Return the facts; None after a change that wakes the TrainingJob again."""
        facts = self._children.facts(resource, plan)
        if plan.cancelled:
            await self._children.cancel(plan, facts)
            return facts
        if facts.job is not None:
            await self._children.propagate_controls(plan, facts)
            return self._children.facts(resource, plan)
        check(plan)
        if plan.held_back or facts.left_behind:  # two pods would write to one folder; the end of that pod wakes
            return facts
        unserved = None if plan.spec.suspend else await why_unserved(self.cluster, plan)
        if unserved and unserved.kind == "Missing":
            return replace(facts, unserved=unserved)
        existing = await self._create_job(resource, plan, status, now)
        if unserved:  # an autoscaler may add a node for a pod that waits, so there has to be one
            self.events.post(resource, unserved.reason, unserved.message, "Warning")
        return self._children.facts(resource, plan, existing) if existing else None

    async def _create_job(self, resource: Object, plan: Plan, status: TrainingJobStatus, now: Now) -> Object | None:
        """Create the Job, or return the existing Job of its name. None too if the TrainingJob has changed meanwhile.

        Raises:
            InvalidResource: when the API server finds fields of the Job invalid.
            ClusterError: for any other refusal, after it was written to the status.
        """
        try:
            if status.phase and not await self._is_current(resource):
                return None
            if status.job_name == plan.job_name:  # a Job that was deleted: the next one has the present settings
                present = status.model_copy(update={"effective_spec": plan.spec.to_dict()})
                await self._writer.write(resource, status, present)
            existing = await self._children.create(plan)
        except ClusterError as error:
            if error.status == 422 and any(cause.field for cause in error.causes):  # a policy names none
                raise InvalidResource([f"the Job is refused: {problem}" for problem in error.problems()]) from error
            if not error.retryable:
                verdict = Verdict("Pending", "JobRefused", f"the Job cannot be created: {error}", stalled=True)
                seen = self._observation(plan, Facts(None), status, now)
                await self._writer.write(resource, status, next_status(seen, verdict))
            raise
        if existing is None and status.job_name == plan.job_name:
            why = f"the Job {plan.job_name} was deleted; its successor resumes from the last checkpoint"
            self.events.post(resource, "JobRecreated", why, "Warning")
        return existing

    async def _is_current(self, resource: Object) -> bool:
        """Whether a TrainingJob is as it was read. A deletion that was missed must not bring its Job back."""
        key = key_of(resource)
        try:
            current = await self.cluster.get(TRAINING_JOBS, key.name, key.namespace)
        except ClusterError as error:
            if error.status != 404:
                raise
            self.store.remove_training_job(key)
            return False
        self.store.put_training_job(current)
        return bool(current["metadata"]["resourceVersion"] == resource["metadata"]["resourceVersion"])

    def _logs_are_behind(self, plan: Plan, facts: Facts, status: TrainingJobStatus) -> bool:
        """Follow the log of each pod whose end is not recorded. Return whether the log of an ended pod is still read.

        The last figures come by the log, and the status of a finished job never changes, so it waits for them.
        """
        recorded = {attempt.pod for attempt in status.attempts or () if attempt.end_time}
        behind = False
        for pod in facts.pods:
            if pod.started and pod.name not in recorded and pod.is_an_attempt:
                self.streams.follow(plan.uid, Key(plan.namespace, plan.name), pod.name, status)
                behind |= pod.end is not None and self.streams.is_behind(plan.uid, pod.name)
        return behind

    async def _events_about(self, plan: Plan, facts: Facts) -> list[Object]:
        assert facts.job is not None
        pod = facts.pending_pod or facts.current
        uid = pod.uid if pod else facts.job.uid
        listing = await self.cluster.list(EVENTS, plan.namespace, fields=f"involvedObject.uid={uid}")
        return listing.items

    async def _why_pending(self, resource: Object, plan: Plan, facts: Facts) -> Facts:
        """The facts with what only Events, or the devices of the cluster, show."""
        facts = self._children.facts(resource, plan, events=await self._events_about(plan, facts))
        pod = facts.pending_pod
        if pod and pod.waiting and pod.waiting.reason == "NoFreeDevice":
            unserved = await why_unserved(self.cluster, plan)
            if unserved and unserved.kind == "Capacity":  # a template may go once the pod has its claim
                return replace(facts, unserved=unserved)
        return facts

    async def _check_gpu_memory(self, seen: Observation) -> Verdict | None:
        """The verdict on a job that no GPU of the cluster can hold; None if one may."""
        end = seen.facts.last_ended.end if seen.facts.last_ended else None
        estimate = end.outcome.estimate if end and end.outcome else None
        if estimate is None:
            return None
        problem = does_not_fit(seen.plan.spec, estimate, await gpu_nodes(self.cluster))
        return Verdict("Failed", "InsufficientGPUMemory", problem, stalled=True) if problem else None

    async def _conclude(
        self, resource: Object, seen: Observation, verdict: Verdict, pause: float | None
    ) -> float | None:
        """Write the status. Return in how many seconds to reconcile again."""
        plan, facts, key = seen.plan, seen.facts, Key(seen.plan.namespace, seen.plan.name)
        failed_pod = facts.failed_pod.name if facts.failed_pod else None
        after = next_status(seen, verdict, self.streams.tail(plan.uid, failed_pod))
        later = await self._writer.write_in_time(resource, seen.previous, after)
        if later is None:
            gone = {pod.name for pod in facts.pods if pod.gone}  # pods that went since are not recorded yet
            self.store.forget_gone(Key(plan.namespace, plan.job_name), gone)
        if verdict.phase in ENDED:
            await self._after_the_end(self.store.training_job(key) or resource)
            return None
        if after.preflight_completion_time and plan.step == "preflight":
            self.streams.forget(plan.uid)  # stages and warnings of the preflight do not belong to training
            return await self.reconcile(key)  # with the newest version: it may be cancelled by now
        pause = pause or (self.settings.missing_seconds / 4 if verdict.stalled else self.settings.resync_seconds)
        if facts.workload and facts.workload.waits:
            pause = min(pause, max(QUEUED_SECONDS, seen.position or 0))
        overdue = seconds_to_overdue(facts, seen.now)
        return min(later or pause, pause, overdue if overdue > 0 else pause)

    async def _after_the_end(self, resource: Object) -> None:
        """Clean up once the result is recorded."""
        self._forget(resource["metadata"]["uid"])
        await self._children.clean_up(resource)

    def _warn_of_annotations(self, resource: Object) -> None:
        """Report once, by an Event, each control annotation whose value has no effect."""
        uid, wrong = resource["metadata"]["uid"], invalid_annotations(resource["metadata"].get("annotations") or {})
        for why in set(wrong) - self._warned.get(uid, set()):
            _log.warning("%s", why)
            self.events.post(resource, "InvalidAnnotation", why, "Warning")
        self._warned[uid] = set(wrong)

    def _forget_deleted(self) -> None:
        known = {resource["metadata"]["uid"] for resource in self.store}
        for uid in (self.streams.uids() | self._writer.uids() | self._warned.keys() | self._reported.keys()) - known:
            self._forget(uid)

    def _forget(self, uid: str) -> None:
        self.streams.forget(uid)
        self._writer.forget(uid)
        self._warned.pop(uid, None)
        self._reported.pop(uid, None)


def _until_events(facts: Facts, now: Now) -> float | None:
    """Seconds until the Events about a pending job are read; None if it is not pending.

    A Job whose pod is refused, and a pod whose volume cannot be mounted, show only in Events, which are not watched.
    """
    job, pod = facts.job, facts.pending_pod or facts.current
    if job is None or not job.owned or job.finished or job.deleting or job.suspended or (pod and pod.started):
        return None
    waited = now.since(pod.created if pod else job.created).total_seconds()
    return min(max(FIRST_EVENTS_SECONDS, waited), _LONGEST_EVENTS_SECONDS)
