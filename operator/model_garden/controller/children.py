"""What the operator does to the Job, Service and Pods of a TrainingJob: create, change, delete."""

from __future__ import annotations

import logging
from typing import Any

from model_garden.builders import job as job_builder
from model_garden.builders.plan import Plan
from model_garden.builders.settings import Settings
from model_garden.cluster import JOBS, PODS, SERVICES, WORKLOADS, Cluster, ClusterError, Propagation
from model_garden.contract import names
from model_garden.controller.kueue import trim_workload
from model_garden.controller.observed import Facts, JobFacts, derive_facts, trim_job, trim_pod
from model_garden.controller.store import Key, Store, job_keys, key_of

_log = logging.getLogger(__name__)

Object = dict[str, Any]


class Children:
    """The objects that belong to TrainingJobs, as the caches show them, and the requests that change them."""

    def __init__(self, cluster: Cluster, store: Store, settings: Settings) -> None:
        self._cluster = cluster
        self._store = store
        self._settings = settings

    def facts(
        self, resource: Object, plan: Plan, job: Object | None = None, events: list[Object] | None = None
    ) -> Facts:
        """What the caches hold of the due step; ``job`` replaces the cached Job."""
        key = Key(plan.namespace, plan.job_name)
        job = job or self._store.job(key)
        return derive_facts(resource["metadata"], job, self._store.pods(key), events or (), self._store.workload(key))

    def has_job(self, resource: Object) -> bool:
        """Whether the TrainingJob has a Job of any step."""
        jobs = (derive_facts(resource["metadata"], self._store.job(key), ()).job for key in job_keys(key_of(resource)))
        return any(job is not None and job.owned for job in jobs)

    async def refresh_pods(self, plan: Plan) -> None:
        """Ask for the pods of the due step, whose watch is behind."""
        labels = f"{names.JOB_NAME}={plan.job_name}"
        for pod in (await self._cluster.list(PODS, plan.namespace, labels=labels, trim=trim_pod)).items:
            self._store.put_pod(pod)

    async def create(self, plan: Plan) -> Object | None:
        """Create the Job of the due step. Return None, or the existing Job of that name.

        A new Job wakes its TrainingJob, so that its status is written after the Jobs of all others that wait.

        Raises:
            ClusterError: when the cluster refuses it.
        """
        await self.create_service(plan)
        try:
            job = await self._cluster.create(JOBS, job_builder.job(plan, self._settings))
        except ClusterError as error:
            if error.reason != "AlreadyExists":
                raise
            return trim_job(await self._cluster.get(JOBS, plan.job_name, plan.namespace))
        _log.info("created Job %s", plan.job_name)
        self._store.put_job(trim_job(job))
        return None

    async def create_service(self, plan: Plan) -> None:
        """Create the Service of a Job of several pods, unless it exists.

        Raises:
            ClusterError: reason ``ServiceNameTaken`` if another owner has a Service of that name.
        """
        service = job_builder.service(plan)
        if service is None:
            return
        name = service["metadata"]["name"]
        try:
            await self._cluster.create(SERVICES, service)
        except ClusterError as error:
            if error.reason != "AlreadyExists":
                raise
            existing = await self._cluster.get(SERVICES, name, plan.namespace)
            if plan.uid not in (owner["uid"] for owner in existing["metadata"].get("ownerReferences") or ()):
                why = f"a Service {name} of another owner exists already; delete it, or rename the TrainingJob"
                raise ClusterError(409, "ServiceNameTaken", why) from error

    async def propagate_controls(self, plan: Plan, facts: Facts) -> None:
        """Pass on what people may change while a job runs: suspend, and stop-and-save."""
        job = facts.job
        if job is None or not job.owned or job.deleting or job.finished:
            return
        if facts.pending_pod:  # a pod that starts has to find the others, even if their Service was deleted
            await self.create_service(plan)
        await self._propagate_suspend(plan, facts, job)
        if facts.workload and not facts.workload.queue and (queue := plan.labels.get(names.KUEUE_QUEUE)):
            # Kueue manages every Job here, so the preflight has to stand in line too
            change: Object = {"metadata": {"labels": {names.KUEUE_QUEUE: queue}}}
            updated = await self._cluster.patch(JOBS, job.name, change, plan.namespace)
            self._store.put_job(trim_job(updated), written=True)
        pod = facts.current
        if plan.stop_and_save and pod and not pod.asked_to_stop:
            change = {"metadata": {"annotations": {names.ANNOTATION_STOP: "save"}}}
            self._store.put_pod(trim_pod(await self._cluster.patch(PODS, pod.name, change, plan.namespace)))

    async def _propagate_suspend(self, plan: Plan, facts: Facts, job: JobFacts) -> None:
        """Suspend or resume the Job; one that Kueue manages by its Workload, since Kueue alone may write to the Job."""
        wanted, workload = bool(plan.spec.suspend), facts.workload
        change: Object = {"metadata": {"annotations": {names.SUSPENDED_BY_SPEC: "true" if wanted else None}}}
        if workload and (workload.active if wanted else not workload.active and workload.suspended_by_spec):
            change |= {"spec": {"active": not wanted}}
            updated = await self._cluster.patch(WORKLOADS, workload.name, change, plan.namespace)
            self._store.put_workload(trim_workload(updated), written=True)
        elif not facts.managed_by_kueue and (not job.suspended if wanted else job.suspended and job.suspended_by_spec):
            change |= {"spec": {"suspend": wanted}}
            updated = await self._cluster.patch(JOBS, job.name, change, plan.namespace)
            self._store.put_job(trim_job(updated), written=True)

    async def cancel(self, plan: Plan, facts: Facts) -> None:
        """Delete the Job of a canceled TrainingJob; it stays until its pods are gone."""
        job = facts.job
        if job and job.owned and not job.deleting and not job.finished:
            await self._delete_job(Key(plan.namespace, job.name), job.uid, "Foreground")

    async def clean_up(self, resource: Object) -> None:
        """Delete unfinished Jobs of a finished TrainingJob, and let its TTL delete the others."""
        for key in job_keys(key_of(resource)):
            self._store.forget_gone(key)
            job = derive_facts(resource["metadata"], self._store.job(key), ()).job
            if job and job.owned and not job.deleting:
                await self._clean_up_job(resource, key, job)

    async def _clean_up_job(self, resource: Object, key: Key, job: JobFacts) -> None:
        ttl = resource["spec"].get("ttlSecondsAfterFinished")
        if not job.finished:
            await self._delete_job(key, job.uid, "Background")
        elif job.ttl != ttl:
            change = {"spec": {"ttlSecondsAfterFinished": ttl}}
            updated = await self._cluster.patch(JOBS, job.name, change, key.namespace)
            self._store.put_job(trim_job(updated), written=True)

    async def _delete_job(self, key: Key, uid: str, propagation: Propagation) -> None:
        try:
            await self._cluster.delete(JOBS, key.name, key.namespace, propagation=propagation, uid=uid)
        except ClusterError as error:
            if error.status not in (404, 409):
                raise
