"""PURE: facts -> verdict: the phase of a TrainingJob, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from model_garden.builders.plan import Plan
from model_garden.contract import names
from model_garden.contract.progress import Outcome
from model_garden.contract.reasons import NO_RETRY, WORKER_LOST, reason_of_exit_code
from model_garden.contract.status import Failure, Phase, TrainingJobStatus
from model_garden.contract.time import timestamp
from model_garden.controller import kueue, pod_reasons
from model_garden.controller.observed import End, Facts, JobFacts, PodFacts
from model_garden.controller.pod_reasons import PendingKind, PendingReason
from model_garden.controller.trainer_events import Training
from model_garden.controller.usage import Price

ENDED: tuple[Phase, ...] = ("Succeeded", "Failed", "Cancelled")

_NODE_RESPONSE_TIME = timedelta(seconds=15)
"""How long after its deadline the end of a deleted pod may take to arrive. Then its node counts as lost."""

_HOLDING_TIME = timedelta(seconds=30)
"""How long other containers of a pod may take to end after its trainer."""

_PODS_BEHIND_TIME = timedelta(seconds=30)
"""How long after the end of a Job the end of its pod is waited for. Its node may be lost."""

_PATIENCE: dict[PendingKind, float] = {"Missing": 1, "Refused": 1, "Image": 6}
"""The time a pod may be pending, in multiples of ``missing_seconds``. A registry gets longer; capacity has no limit."""


@dataclass(frozen=True)
class Verdict:
    """The phase, a CamelCase reason and a sentence.

    ``stalled``: the job needs a person to continue. ``problem``: what it waits for and does not wait for without limit.
    """

    phase: Phase
    reason: str
    message: str
    stalled: bool = False
    problem: str | None = None


@dataclass(frozen=True)
class Now:
    """The time, and the generation of the TrainingJob, that a status is computed for."""

    time: datetime
    generation: int

    def text(self) -> str:
        """The time as a status has it."""
        return timestamp(self.time)

    def since(self, time: str) -> timedelta:
        """How long ago a ``metav1.Time`` was."""
        return self.time - datetime.fromisoformat(time)


def now_for(generation: int) -> Now:
    """The present time."""
    return Now(datetime.now(UTC), generation)


@dataclass(frozen=True)
class Observation:
    """All that a verdict and a status are computed from.

    Attributes:
        plan: what should exist.
        facts: what exists.
        training: what the trainers have reported.
        previous: the status so far.
        now: the time.
        position: the job's place in the line of Kueue, from 1, if it is known.
        kueue_served: whether the cluster has Kueue.
        price: what an hour of a GPU costs, if the operator's settings say so.
    """

    plan: Plan
    facts: Facts
    training: Training
    previous: TrainingJobStatus
    now: Now
    position: int | None = None
    kueue_served: bool = False
    price: Price | None = None


def judge(seen: Observation, missing_seconds: float) -> Verdict:
    """The verdict on a valid TrainingJob.

    Args:
        seen: what is known of it.
        missing_seconds: how long a job waits for something that is missing before it fails.
    """
    verdict = _judge(seen, missing_seconds)
    if not seen.plan.cancelled or verdict.phase in ENDED:
        return verdict
    job, pod = seen.facts.job, _runs_without_job(seen.facts)
    if pod is None and (job is None or not job.owned or job.finished):  # a finished preflight leaves nothing to stop
        return Verdict("Cancelled", "Cancelled", f"the job was canceled (annotation {names.ANNOTATION_CANCEL})")
    if verdict.reason == "NodeNotResponding":
        return verdict
    until = f"it ends once {_that_it_ended(pod)}" if pod else "its pods are stopping"
    return Verdict(seen.previous.phase or "Pending", "Cancelling", f"the job is being canceled; {until}")


def _judge(seen: Observation, missing_seconds: float) -> Verdict:
    """The verdict on a TrainingJob that is not canceled."""
    plan, facts, job = seen.plan, seen.facts, seen.facts.job
    if job is None and plan.held_back:
        why = "the job is suspended, so its Job is not created yet; set spec.suspend to false to create the Job"
        return Verdict("Suspended", "Suspended", why)
    if job is None and facts.left_behind:
        return _not_stopped(facts, seen.now) or _before_the_next_job(facts, facts.left_behind)
    if job is None and facts.unserved:
        return _pending(facts.unserved, None, "", seen, missing_seconds)
    if job is None:
        return Verdict("Pending", "CreatingJob", "the operator is creating the Job")
    if not job.owned:
        return _name_taken(plan, job, facts, seen.now)
    if job.complete and plan.step == "preflight":
        why = "the preflight succeeded; the operator is creating the training Job"
        return Verdict("Pending", "PreflightSucceeded", why)
    if job.complete:
        return Verdict("Succeeded", "Succeeded", _success(facts, seen.training))
    if job.failed:
        failure = job_failure(plan, facts, None)
        return Verdict("Failed", failure.reason, failure.message, stalled=True)
    if not_stopped := _not_stopped(facts, seen.now):
        return not_stopped
    if job.deleting:
        return Verdict("Pending", "JobDeleted", "the Job is being deleted; a new Job will resume training")
    if job.suspended:
        return _queued(seen) if facts.managed_by_kueue else _suspended(plan, job)
    verdict = _admitted_in_vain(seen, _unfinished(seen, missing_seconds), missing_seconds)
    if plan.step == "preflight" and verdict.phase in ("Starting", "Running"):
        return replace(verdict, phase="Preparing")
    return verdict


def _before_the_next_job(facts: Facts, pod: PodFacts) -> Verdict:
    """The verdict on a job whose Job is to be created once the pod of an earlier one has ended."""
    ended = _that_it_ended(pod)
    if _runs_without_job(facts):
        return Verdict("Pending", "JobDeleted", f"the Job was deleted; a new Job will resume training once {ended}")
    why = f"the job waits until {ended}: the pod belongs to a deleted TrainingJob with the same name"
    return Verdict("Pending", "PreviousJobEnding", why)


def _runs_without_job(facts: Facts) -> PodFacts | None:
    """The pod of a job whose Job was deleted, as with ``--cascade=orphan``; not one of an earlier TrainingJob."""
    pod = facts.left_behind
    return pod if pod and facts.job is None and pod.uid in (mine.uid for mine in facts.pods) else None


def _that_it_ended(pod: PodFacts) -> str:
    return pod_reasons.left_behind(pod.name, pod.node, pod.delete_by)


def _name_taken(plan: Plan, job: JobFacts, facts: Facts, now: Now) -> Verdict:
    if job.other_owner == f"{names.KIND} {plan.name}":
        why = f"the job waits: the Job {job.name} of a deleted TrainingJob with the same name still exists"
        return _not_stopped(facts, now) or Verdict("Pending", "PreviousJobEnding", why)
    owner = f"belongs to {job.other_owner}" if job.other_owner else "has no owner"
    fix = "delete that Job, or create the TrainingJob under another name"
    return Verdict("Pending", "JobNameTaken", f"another Job is named {job.name} and {owner}; {fix}", stalled=True)


def _not_stopped(facts: Facts, now: Now) -> Verdict | None:
    """The verdict on a job whose deleted pod has passed its deadline, as when its node is lost; None for any other."""
    pod = facts.stopping
    if pod is None or pod.delete_by is None or seconds_to_overdue(facts, now) > 0:
        return None
    why = pod_reasons.not_stopped(pod.name, pod.node, pod.delete_reason, pod.delete_by)
    return Verdict("Pending", "NodeNotResponding", why, stalled=True)


def seconds_to_overdue(facts: Facts, now: Now) -> float:
    """Seconds until a deleted pod that has not ended is overdue; infinite if there is none."""
    pod = facts.stopping
    return (_NODE_RESPONSE_TIME - now.since(pod.delete_by)).total_seconds() if pod and pod.delete_by else float("inf")


def _suspended(plan: Plan, job: JobFacts) -> Verdict:
    if job.suspended_by_spec:
        return _suspended_by_spec(plan)
    why = f"Job {job.name} was suspended outside the operator; set its spec.suspend to false to resume"
    return Verdict("Suspended", "SuspendedByOthers", why)


def _suspended_by_spec(plan: Plan) -> Verdict:
    why = f"the job is suspended; set spec.suspend to false to resume it (model-garden resume {plan.name})"
    return Verdict("Suspended", "Suspended", why)


def _queued(seen: Observation) -> Verdict:
    """The verdict on a suspended Job that Kueue manages."""
    workload = seen.facts.workload
    if seen.plan.spec.suspend and (workload is None or not workload.active):
        return _suspended_by_spec(seen.plan)
    if workload and not workload.active and not workload.suspended_by_spec:
        told = kueue.why_deactivated(workload, seen.plan.namespace)
        return Verdict("Suspended", told.reason, told.message)
    told = kueue.why_queued(workload, served=seen.kueue_served)
    place = f"place {seen.position} in line: " if seen.position else ""
    stopping = "; its pod saves a checkpoint and stops" if seen.facts.stopping else ""
    stalled = told.reason in ("KueueNotInstalled", "NoQueue")
    return Verdict("Queued", told.reason, f"{place}{told.message}{stopping}", stalled=stalled)


def _admitted_in_vain(seen: Observation, verdict: Verdict, missing_seconds: float) -> Verdict:
    """The verdict, or that a job holds a quota of Kueue for so long and no pod of it has started."""
    workload = seen.facts.workload
    if workload is None or workload.admitted is None or verdict.phase not in ("Pending", "Starting"):
        return verdict
    since = workload.admitted
    started = any(pod.started and pod.started >= since for pod in seen.facts.pods)
    if started or seen.now.since(since).total_seconds() < missing_seconds:
        return verdict
    why = f"Kueue admitted the job at {since} (ClusterQueue {workload.cluster_queue}), but no pod runs since"
    return replace(verdict, reason="AdmittedNotRunning", message=f"{why}: {verdict.message}")


def _unfinished(seen: Observation, missing_seconds: float) -> Verdict:
    facts, training = seen.facts, seen.training
    assert facts.job is not None
    pod = facts.pending_pod or facts.current
    if pod is None:
        if not_ending := _not_ending(facts, seen.now):
            return not_ending
        if problem := facts.job.start_problem:
            return _pending(problem, None, facts.job.created, seen, missing_seconds)
        if last := facts.last_ended:
            assert last.end is not None
            resumes = ", which resumes from the last checkpoint" if training.checkpoint is not None else ""
            why = f"pod {last.name} ended ({_describe(last.end)}); the Job creates a new pod{resumes}"
            return Verdict("Starting", "Retrying", why)
        return Verdict("Starting", "Starting", "Kubernetes is creating the Job's pod")
    if (stopping := facts.stopping) and stopping.started and stopping.delete_by:
        why = pod_reasons.stopping(stopping.name, stopping.node, stopping.delete_reason, stopping.delete_by)
        return Verdict("Running", "PodDeleted", why)
    if (lost := facts.on_lost_node) and lost.node_lost:
        return Verdict("Running", "NodeNotReady", pod_reasons.node_lost(lost.name, lost.node, lost.node_lost))
    if pod.started:
        report = training.warning or training.stage or "the trainer is starting"
        return Verdict(
            "Running",
            "Running",
            report if not pod.asked_to_stop else f"the trainer was asked to stop early and save the model; {report}",
        )
    if pod.waiting:
        start = pod.scheduled or pod.created
        return _pending(facts.unserved or pod.waiting, pod.node, start, seen, missing_seconds)
    return Verdict("Starting", "Starting", "the pod is starting")


def _not_ending(facts: Facts, now: Now) -> Verdict | None:
    """The verdict on a job whose last pod cannot end, since other containers run in it; None for any other."""
    pod = facts.last_ended
    if facts.current or pod is None or pod.end is None or pod.end.time is None or not pod.holding:
        return None
    if now.since(pod.end.time) < _HOLDING_TIME:
        return None
    why = pod_reasons.not_ending(pod.name, pod.end.exit_code, pod.holding)
    return Verdict("Running", "PodNotEnding", why, stalled=True)


def _pending(why: PendingReason, node: str | None, start: str, seen: Observation, missing_seconds: float) -> Verdict:
    """Pending until the pod is scheduled to a node, Starting from then on; Failed after its time for one problem.

    That time counts from ``start`` at the earliest: the hours that a pod was queued do not count.
    """
    patience = missing_seconds * _PATIENCE.get(why.kind, float("inf"))
    since = (seen.previous.missing_since or {}).get(why.problem)
    if since and seen.now.since(max(start, since)).total_seconds() > patience:
        return Verdict(
            "Failed", why.reason, f"{why.message}; the operator stopped waiting after {int(patience)} s", stalled=True
        )
    phase: Phase = "Starting" if node or why.kind == "Starting" else "Pending"
    stalled = why.kind not in ("Capacity", "Starting")
    return Verdict(phase, why.reason, why.message, stalled, why.problem if stalled else None)


def _success(facts: Facts, training: Training) -> str:
    outcome = last_outcome(facts)
    if outcome is None:
        return "the trainer exited with code 0 but reported no output"
    progress = outcome.progress or training.progress
    steps = f"the job trained {progress.step} of {progress.total_steps} steps" if progress else "the job trained"
    early = f", then stopped early on request (annotation {names.ANNOTATION_STOP})" if outcome.stopped_early else ""
    return f"{steps}{early}; the model is at {outcome.output.path}" if outcome.output else f"{steps}{early}"


def last_outcome(facts: Facts) -> Outcome | None:
    """The outcome of the newest pod that ended; None while another one runs."""
    last = facts.last_ended
    if last is None or last.end is None:
        return None
    current = facts.current
    if current and current.started and current.created >= last.created:  # an older one is on a lost node
        return None
    return last.end.outcome


def job_failure(plan: Plan, facts: Facts, log_tail: list[str] | None) -> Failure:
    """Why a failed Job failed, as its trainer reported it, else as the kernel or node did, else as the Job does."""
    assert facts.job is not None and facts.job.failed is not None
    job_reason, job_message = facts.job.failed
    end = facts.failed_pod.end if facts.failed_pod else None
    exit_code = end.exit_code if end else None
    if job_reason == "DeadlineExceeded":
        limit = plan.spec.active_deadline_seconds
        message = (
            f"the job ran longer than spec.activeDeadlineSeconds ({limit}); to resume from its last checkpoint, run: "
            f"model-garden rerun {plan.name} --set activeDeadlineSeconds=SECONDS --set outputDir={plan.spec.output_dir}"
        )
        return Failure(reason="DeadlineExceeded", message=message, exit_code=exit_code, log_tail=log_tail)
    if end is None:
        return Failure(reason=job_reason or "TrainerError", message=job_message or "the Job failed", log_tail=log_tail)
    message = end.message or f"the trainer ended with exit code {exit_code}"
    if job_reason == "BackoffLimitExceeded":
        message += f" (the last of {len(facts.pods)} pods; spec.backoffLimit is {plan.spec.backoff_limit})"
    return Failure(reason=_reason(end), message=message, exit_code=exit_code, log_tail=log_tail)


def _reason(end: End) -> str:
    if end.outcome and end.outcome.reason:
        return end.outcome.reason
    return end.killed_for or reason_of_exit_code(end.exit_code)


def _describe(end: End) -> str:
    return f"{end.reason}: {end.message}" if end.message else end.reason


def pods_are_behind(facts: Facts) -> bool:
    """Whether the Job has ended and the end of a pod of it is not known. They are watched over two connections."""
    ended = facts.job is not None and facts.job.owned and facts.job.finished
    return ended and (not facts.pods or any(pod.end is None for pod in facts.pods))


def awaiting_pods(facts: Facts, now: Now) -> bool:
    """Whether the end of a pod may still arrive. A final status never changes, so it is not written before."""
    end = facts.job.end_time if facts.job else None
    return pods_are_behind(facts) and bool(facts.pods and end) and now.since(str(end)) < _PODS_BEHIND_TIME


def awaiting_job_conclusion(plan: Plan, facts: Facts, now: Now) -> bool:
    """Whether a pod ended in a way that ends the Job, and the Job does not show it yet. Then no status is written."""
    job, last = facts.job, facts.failed_pod
    if job is None or job.finished or job.suspended or facts.current or last is None or last.end is None:
        return False
    if _not_ending(facts, now):
        return False
    if last.end.exit_code == 0 or last.end.exit_code in NO_RETRY:
        return True
    failed = sum(1 for pod in facts.pods if pod.end and _counts(pod.end))
    return failed > (plan.spec.backoff_limit or 0)


def _counts(end: End) -> bool:
    """Whether the Job counts a failure against its ``backoffLimit``."""
    return end.exit_code != WORKER_LOST and end.killed_for not in ("Evicted", "Preempted")
