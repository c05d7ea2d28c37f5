"""The level-based loop: read a TrainingJob and its children from the caches, make what is missing, write what is so.

Running it twice changes nothing, and it may be cut off anywhere: names are deterministic, the Job carries its owner,
and the status is written last.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import Any

from model_garden.builders import job as job_builder
from model_garden.builders.plan import Plan, check, invalid_annotations
from model_garden.builders.plan import plan as plan_of
from model_garden.builders.settings import Settings
from model_garden.cluster import EVENTS, JOBS, PODS, SERVICES, TRAINING_JOBS, Cluster, ClusterError, Propagation
from model_garden.contract import names
from model_garden.contract.names import SUSPENDED_BY_SPEC
from model_garden.contract.resource import InvalidResource
from model_garden.contract.status import TrainingJobStatus
from model_garden.controller.events import EventPoster
from model_garden.controller.gpu_capacity import does_not_fit, gpu_nodes
from model_garden.controller.observed import Facts, JobFacts, observe, trim_job, trim_pod
from model_garden.controller.progress_stream import ProgressStreams
from model_garden.controller.status import ENDED, finished, invalid, message, next_status, read_status, urgent
from model_garden.controller.store import Key, Store, job_keys, key_of
from model_garden.controller.verdict import Now, Verdict, awaiting_job_conclusion, judge, now_for, until_overdue

_log = logging.getLogger(__name__)

Object = dict[str, Any]

FIRST_LOOK_SECONDS = 1.0
_LONGEST_LOOK_SECONDS = 30.0


@dataclass
class Reconciler:
    """All that a reconcile needs; ``reconcile`` is its one entry."""

    cluster: Cluster
    store: Store
    streams: ProgressStreams
    events: EventPoster
    settings: Settings

    def __post_init__(self) -> None:
        self._patched: dict[str, float] = {}
        self._warned: dict[str, set[str]] = {}

    async def reconcile(self, key: Key) -> float | None:
        """Bring one TrainingJob forward; return in how many seconds to look again if nothing wakes it before.

        Raises:
            ClusterError: when the cluster does not do as asked; to be tried again later.
        """
        resource = self.store.training_job(key)
        if resource is None or "deletionTimestamp" in resource["metadata"]:
            self._forget_all_but_known()
            return None
        status, lost = read_status(resource.get("status") or {})
        if lost:
            _log.warning("the status cannot be read, and is made anew, but for %s", ", ".join(lost))
        at = now_for(resource["metadata"]["generation"])
        if finished(status):
            return await self._after_the_end(resource)
        try:
            plan = self._due(resource, plan_of(resource, self.settings), status)
            self._warn_of_annotations(resource)
            return await self._advance(resource, plan, status, at)
        except InvalidResource as error:
            if self._trains(resource):
                _log.warning("this operator cannot read the spec, so the Job is left alone: %s", error)
                return self.settings.resync_seconds
            await self._record(resource, status, invalid(status, error.problems, at))
            return None

    def _trains(self, resource: Object) -> bool:
        """Whether there is a training Job: what was valid when it was made never becomes invalid."""
        key = key_of(resource)
        job = self.store.job(Key(key.namespace, names.job_name(key.name)))
        facts = observe(resource["metadata"], job, ()).job
        return facts is not None and facts.owned

    def _warn_of_annotations(self, resource: Object) -> None:
        """Tell once, by an Event, of a wish in words that mean nothing."""
        uid, wrong = resource["metadata"]["uid"], invalid_annotations(resource["metadata"].get("annotations") or {})
        for why in set(wrong) - self._warned.get(uid, set()):
            _log.warning("%s", why)
            self.events.post(resource, "InvalidAnnotation", why, "Warning")
        self._warned[uid] = set(wrong)

    def _due(self, resource: Object, plan: Plan, status: TrainingJobStatus) -> Plan:
        """The plan of the step that is due: the preflight, until it is recorded as done or there is a training Job."""
        if not plan.needs_preflight or status.preflight_completion_time:
            return plan
        job = self._observe(plan, resource).job
        return plan if job and job.owned else replace(plan, step="preflight")

    async def _advance(self, resource: Object, plan: Plan, status: TrainingJobStatus, at: Now) -> float | None:
        facts = self._observe(plan, resource)
        if facts.job is None and not plan.cancelled:
            check(plan)
        if facts.job is None and not plan.cancelled and not plan.held_back:
            job = await self._create(resource, plan, status, at)
            if job is None:
                return None
            facts = self._observe(plan, resource, job)
        elif plan.cancelled:
            await self._cancel(plan, facts)
        else:
            await self._propagate_controls(plan, facts)
            facts = self._observe(plan, resource)
        if self._logs_are_behind(plan, facts, status) or awaiting_job_conclusion(plan, facts):
            return 1.0  # the end of the log, or of the Job, wakes the job; this is for a node that says nothing
        waits = _waits_silently(facts, at)
        if waits and waits > FIRST_LOOK_SECONDS:
            facts = self._observe(plan, resource, events=await self._events_about(plan, facts))
        verdict = self._judge(plan, facts, status, at)
        if verdict.reason == "PreflightSucceeded":
            verdict = await self._refusal(plan, facts) or verdict
        after = next_status(
            status,
            verdict,
            plan,
            facts,
            self.streams.training(plan.uid, status),
            at,
            self.streams.tail(plan.uid, facts.failed_pod.name if facts.failed_pod else None),
        )
        later = await self._record_in_time(resource, status, after)
        if later is None:
            gone = {pod.name for pod in facts.pods if pod.gone}  # not those that went in the meantime
            self.store.forget_gone(Key(plan.namespace, plan.job_name), gone)
        if verdict.phase in ENDED:
            return await self._after_the_end(self.store.training_job(_key(plan)) or resource)
        if after.preflight_completion_time and plan.step == "preflight":
            self.streams.forget(plan.uid)  # the stages and warnings of a preflight are none of training's
            return await self.reconcile(_key(plan))  # of the newest: it may be cancelled by now
        look = waits or (self.settings.missing_seconds / 4 if verdict.stalled else self.settings.resync_seconds)
        overdue = until_overdue(facts, at)
        return min(later or look, look, overdue if overdue > 0 else look)

    def _judge(self, plan: Plan, facts: Facts, status: TrainingJobStatus, at: Now) -> Verdict:
        training = self.streams.training(plan.uid, status)
        verdict = judge(plan, facts, training, status, at, self.settings.missing_seconds)
        if not plan.cancelled or verdict.phase in ENDED or verdict.reason == "NodeNotResponding":
            return verdict
        if facts.job is None or not facts.job.owned:
            return Verdict("Cancelled", "Cancelled", f"cancelled by the annotation {names.ANNOTATION_CANCEL}")
        return Verdict(status.phase or "Pending", "Cancelling", "cancelled; the pods are stopping")

    async def _refusal(self, plan: Plan, facts: Facts) -> Verdict | None:
        """The verdict on a job that no GPU of the cluster can hold; None if one may."""
        outcome = facts.last_ended.end.outcome if facts.last_ended and facts.last_ended.end else None
        if outcome is None or outcome.estimate is None:
            return None
        problem = does_not_fit(plan.spec, outcome.estimate, await gpu_nodes(self.cluster))
        return Verdict("Failed", "InsufficientGPUMemory", problem, stalled=True) if problem else None

    def _observe(
        self, plan: Plan, resource: Object, job: Object | None = None, events: list[Object] | None = None
    ) -> Facts:
        key = Key(plan.namespace, plan.job_name)
        return observe(resource["metadata"], job or self.store.job(key), self.store.pods(key), events or ())

    async def _create(self, resource: Object, plan: Plan, status: TrainingJobStatus, at: Now) -> Object | None:
        """Create the Job and return None, or find and return the one that has its name.

        A new Job wakes its TrainingJob, so that its status is written behind the Jobs of all others that wait. None is
        also returned if the TrainingJob is not as it was read.

        Raises:
            InvalidResource: when the API server says that the Job cannot be.
            ClusterError: any other refusal, which the status tells of.
        """
        try:
            if status.phase and not await self._is_current(resource):
                return None
            await self._create_service(plan)
            job = await self.cluster.create(JOBS, job_builder.job(plan, self.settings))
        except ClusterError as error:
            if error.reason == "AlreadyExists":
                return trim_job(await self.cluster.get(JOBS, plan.job_name, plan.namespace))
            if error.status in (400, 422):
                raise InvalidResource([f"the Job is refused: {problem}" for problem in error.problems()]) from error
            if not error.retryable:
                verdict = Verdict("Pending", "JobRefused", f"the Job cannot be created: {error}", stalled=True)
                training = self.streams.training(plan.uid, status)
                await self._record(resource, status, next_status(status, verdict, plan, Facts(None), training, at))
            raise
        _log.info("created Job %s", plan.job_name)
        if status.job_name == plan.job_name:
            why = f"the Job {plan.job_name} was deleted; its successor resumes from the last checkpoint"
            self.events.post(resource, "JobRecreated", why, "Warning")
        self.store.put_job(trim_job(job))
        return None

    async def _create_service(self, plan: Plan) -> None:
        """Create the Service of a Job of several pods, unless there is none to be, or it is there."""
        service = job_builder.service(plan)
        if service is None:
            return
        name = service["metadata"]["name"]
        try:
            await self.cluster.create(SERVICES, service)
        except ClusterError as error:
            if error.reason != "AlreadyExists":
                raise
            there = await self.cluster.get(SERVICES, name, plan.namespace)
            if plan.uid not in (owner["uid"] for owner in there["metadata"].get("ownerReferences") or ()):
                why = f"a Service {name} exists already and is another's; delete it, or rename the TrainingJob"
                raise ClusterError(409, "ServiceNameTaken", why) from error

    async def _is_current(self, resource: Object) -> bool:
        """A missed deletion must not bring a Job back: look before creating one for what was seen a while ago."""
        key = key_of(resource)
        try:
            now = await self.cluster.get(TRAINING_JOBS, key.name, key.namespace)
        except ClusterError as error:
            if error.status != 404:
                raise
            self.store.remove_training_job(key)
            return False
        self.store.put_training_job(now)
        return bool(now["metadata"]["resourceVersion"] == resource["metadata"]["resourceVersion"])

    async def _propagate_controls(self, plan: Plan, facts: Facts) -> None:
        """Pass on what people may change while a job runs: suspend, and stop-and-save."""
        job = facts.job
        if job is None or not job.owned or job.deleting or job.finished:
            return
        if facts.pending_pod:  # a pod that starts has to find the others, whatever became of their Service
            await self._create_service(plan)
        wanted = bool(plan.spec.suspend)
        if not plan.queued_by_kueue and (not job.suspended if wanted else job.suspended and job.suspended_by_spec):
            annotations = {SUSPENDED_BY_SPEC: "true" if wanted else None}
            change = {"metadata": {"annotations": annotations}, "spec": {"suspend": wanted}}
            now = await self.cluster.patch(JOBS, job.name, change, plan.namespace)
            self.store.put_job(trim_job(now), written=True)
        pod = facts.current
        if plan.stop_and_save and pod and not pod.told_to_stop:
            change = {"metadata": {"annotations": {names.ANNOTATION_STOP: "save"}}}
            self.store.put_pod(trim_pod(await self.cluster.patch(PODS, pod.name, change, plan.namespace)))

    async def _cancel(self, plan: Plan, facts: Facts) -> None:
        job = facts.job
        if job and job.owned and not job.deleting and not job.finished:
            await self._delete_job(Key(plan.namespace, job.name), job.uid, "Foreground")

    async def _delete_job(self, key: Key, uid: str, propagation: Propagation) -> None:
        try:
            await self.cluster.delete(JOBS, key.name, key.namespace, propagation=propagation, uid=uid)
        except ClusterError as error:
            if error.status not in (404, 409):
                raise

    def _logs_are_behind(self, plan: Plan, facts: Facts, status: TrainingJobStatus) -> bool:
        """Follow the log of each pod whose ending is not in the status; whether one that has ended is still being read.

        The last figures come by the log, and the status of an ended job never changes again: so it waits for them.
        """
        noted = {attempt.pod for attempt in status.attempts or () if attempt.end_time}
        behind = False
        for pod in facts.pods:
            if pod.started and pod.name not in noted and pod.is_an_attempt:
                self.streams.follow(plan.uid, _key(plan), pod.name, status)
                behind |= pod.end is not None and self.streams.is_behind(plan.uid, pod.name)
        return behind

    async def _events_about(self, plan: Plan, facts: Facts) -> list[Object]:
        assert facts.job is not None
        pod = facts.pending_pod or facts.current
        uid = pod.uid if pod else facts.job.uid
        listing = await self.cluster.list(EVENTS, plan.namespace, fields=f"involvedObject.uid={uid}")
        return listing.items

    async def _after_the_end(self, resource: Object) -> float | None:
        """Once the result is recorded its Jobs may go: by TTL, or at once what was given up while unfinished."""
        metadata = resource["metadata"]
        self.streams.forget(metadata["uid"])
        self._patched.pop(metadata["uid"], None)
        self._warned.pop(metadata["uid"], None)
        for key in job_keys(key_of(resource)):
            self.store.forget_gone(key)
            job = observe(metadata, self.store.job(key), ()).job
            if job and job.owned and not job.deleting:
                await self._clean_up_job(resource, key, job)
        return None

    async def _clean_up_job(self, resource: Object, key: Key, job: JobFacts) -> None:
        ttl = resource["spec"].get("ttlSecondsAfterFinished")
        if not job.finished:
            await self._delete_job(key, job.uid, "Background")
        elif job.ttl != ttl:
            change = {"spec": {"ttlSecondsAfterFinished": ttl}}
            now = await self.cluster.patch(JOBS, job.name, change, key.namespace)
            self.store.put_job(trim_job(now), written=True)

    async def _record_in_time(
        self, resource: Object, before: TrainingJobStatus, after: TrainingJobStatus
    ) -> float | None:
        """Record a change at once if it is urgent, else when the last is long enough ago; return when that will be."""
        since = time.monotonic() - self._patched.get(resource["metadata"]["uid"], float("-inf"))
        if urgent(before, after) or since >= self.settings.progress_seconds:
            await self._record(resource, before, after)
            return None
        return self.settings.progress_seconds - since if after != before else None

    async def _record(self, resource: Object, before: TrainingJobStatus, after: TrainingJobStatus) -> None:
        """Write a status if it differs, and tell of a new phase.

        Only what was read is written to: somebody's wish that came since, or a namesake, is to be read first.

        Raises:
            ClusterError: reason ``Conflict`` when the TrainingJob is not as it was read; to be tried again.
        """
        key, uid = key_of(resource), resource["metadata"]["uid"]
        change = merge_patch(resource.get("status") or {}, after.to_dict())
        if not change:
            return
        try:
            body = {"metadata": {"resourceVersion": resource["metadata"]["resourceVersion"]}, "status": change}
            now = await self.cluster.patch(TRAINING_JOBS, key.name, body, key.namespace, subresource="status")
        except ClusterError as error:
            if error.status != 404:
                raise
            self.store.remove_training_job(key)
            return
        self._patched[uid] = time.monotonic()
        self.store.put_training_job(now, written=True)
        if after.phase != before.phase:
            why = message(after)
            _log.info("%s -> %s: %s", before.phase or "new", after.phase, why)
            self.events.post(resource, str(after.phase), why, "Warning" if after.phase == "Failed" else "Normal")

    def _forget_all_but_known(self) -> None:
        known = {resource["metadata"]["uid"] for resource in self.store}
        for uid in self.streams.uids() - known:
            self.streams.forget(uid)
        for noted in (self._patched, self._warned):
            for uid in noted.keys() - known:
                del noted[uid]


def _key(plan: Plan) -> Key:
    return Key(plan.namespace, plan.name)


def _waits_silently(facts: Facts, at: Now) -> float | None:
    """Seconds until the next look at a job that waits for something no watch tells of; None if it does not.

    A Job whose pod is refused, and a pod whose volume cannot be mounted, show in Events alone.
    """
    job, pod = facts.job, facts.pending_pod or facts.current
    if job is None or not job.owned or job.finished or job.deleting or job.suspended or (pod and pod.started):
        return None
    waited = at.since(pod.created if pod else job.created).total_seconds()
    return min(max(FIRST_LOOK_SECONDS, waited), _LONGEST_LOOK_SECONDS)


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
