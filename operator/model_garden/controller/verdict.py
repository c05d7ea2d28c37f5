"""PURE: facts -> where a TrainingJob stands, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from model_garden.builders.plan import Plan
from model_garden.contract.names import KIND
from model_garden.contract.progress import Outcome
from model_garden.contract.reasons import NO_RETRY, WORKER_LOST, reason_of_exit_code
from model_garden.contract.status import Failure, Phase, TrainingJobStatus
from model_garden.controller import pod_reasons
from model_garden.controller.observed import End, Facts, JobFacts
from model_garden.controller.pod_reasons import PendingKind, PendingReason
from model_garden.controller.trainer_events import Training

Object = dict[str, Any]

_NODE_ANSWERS_WITHIN = timedelta(seconds=15)
"""How long after a pod's time to stop its end is waited for before its node counts as lost."""

_PATIENCE: dict[PendingKind, float] = {"Missing": 1, "Refused": 1, "Image": 6}
"""How many times ``missing_seconds`` is waited: for a registry longer, for room in the cluster without an end."""


@dataclass(frozen=True)
class Verdict:
    """The phase, a CamelCase reason and a sentence; ``stalled``: it will not go on without somebody's help."""

    phase: Phase
    reason: str
    message: str
    stalled: bool = False


@dataclass(frozen=True)
class Now:
    """When and about which generation a status is computed."""

    now: datetime
    generation: int

    def text(self) -> str:
        """The time as ``metav1.Time`` spells it."""
        return self.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def since(self, time: str) -> timedelta:
        """How long ago a ``metav1.Time`` was."""
        return self.now - datetime.fromisoformat(time)


def now_for(generation: int) -> Now:
    """Now."""
    return Now(datetime.now(UTC), generation)


def judge(
    plan: Plan, facts: Facts, training: Training, previous: TrainingJobStatus, at: Now, missing_seconds: float
) -> Verdict:
    """Where a valid TrainingJob that nobody cancelled stands.

    Args:
        plan: what should be.
        facts: what is.
        training: what the trainers told.
        previous: the status until now: it tells since when the job is held up.
        at: now.
        missing_seconds: how long something that is missing is waited for before the job fails.
    """
    job = facts.job
    if job is None and plan.held_back:
        return Verdict(
            "Suspended", "Suspended", "suspended by spec.suspend; set it to false to put the Job in its queue"
        )
    if job is None:
        return Verdict("Pending", "CreatingJob", "the Job is being created")
    if not job.owned:
        return _name_taken(plan, job)
    if job.complete and plan.step == "preflight":
        return Verdict("Pending", "PreflightSucceeded", "data and model are ready; the Job that trains comes next")
    if job.complete:
        return Verdict("Succeeded", "Succeeded", _success(facts, training))
    if job.failed:
        failure = _failure(plan, facts, None)
        return Verdict("Failed", failure.reason, failure.message, stalled=True)
    if not_stopped := _not_stopped(facts, at):
        return not_stopped
    if job.deleting:
        return Verdict("Pending", "JobDeleted", "the Job is being deleted; another one will take its place and resume")
    if job.suspended:
        return _suspended(plan, job)
    verdict = _unfinished(facts, training, previous, at, missing_seconds)
    if plan.step == "preflight" and verdict.phase in ("Starting", "Running"):
        return replace(verdict, phase="Preparing")
    return verdict


def _name_taken(plan: Plan, job: JobFacts) -> Verdict:
    if job.other_owner == f"{KIND} {plan.name}":
        return Verdict("Pending", "PreviousJobEnding", f"waiting for a deleted namesake's Job {job.name} to go")
    owner = f"it belongs to {job.other_owner}" if job.other_owner else "nobody owns it"
    fix = "delete that Job, or give the TrainingJob another name"
    return Verdict("Pending", "JobNameTaken", f"a Job {job.name} exists already and {owner}; {fix}", stalled=True)


def _not_stopped(facts: Facts, at: Now) -> Verdict | None:
    """The verdict on a job whose pod was to be gone by now, as when its node is lost; None for any other."""
    pod = facts.stopping
    if pod is None or pod.delete_by is None or until_overdue(facts, at) > 0:
        return None
    why = pod_reasons.not_stopped(pod.name, pod.node, pod.delete_reason, pod.delete_by)
    return Verdict("Pending", "NodeNotResponding", why, stalled=True)


def until_overdue(facts: Facts, at: Now) -> float:
    """Seconds until a pod that is to be deleted counts as not stopped; infinite where there is none."""
    pod = facts.stopping
    return (_NODE_ANSWERS_WITHIN - at.since(pod.delete_by)).total_seconds() if pod and pod.delete_by else float("inf")


def _suspended(plan: Plan, job: JobFacts) -> Verdict:
    if plan.queued_by_kueue and not job.suspended_by_spec:
        return Verdict("Queued", "WaitingForQuota", "waiting for Kueue to admit the Job")
    if job.suspended_by_spec:
        return Verdict("Suspended", "Suspended", "suspended by spec.suspend; set it to false to go on")
    return Verdict(
        "Suspended",
        "SuspendedByOthers",
        f"somebody suspended the Job {job.name}; it goes on when its spec.suspend is false",
    )


def _unfinished(
    facts: Facts, training: Training, previous: TrainingJobStatus, at: Now, missing_seconds: float
) -> Verdict:
    assert facts.job is not None
    pod = facts.pending_pod or facts.current
    if pod is None:
        if problem := facts.job.start_problem:
            return _waiting(problem, None, _held_up_for(facts.job.created, previous, at), missing_seconds)
        if last := facts.last_ended:
            assert last.end is not None
            return Verdict("Starting", "Retrying", f"pod {last.name} ended ({_ending(last.end)}); the next one follows")
        return Verdict("Starting", "Starting", "the Job's pod is being created")
    if (stopping := facts.stopping) and stopping.delete_by:
        why = pod_reasons.stopping(stopping.name, stopping.node, stopping.delete_reason, stopping.delete_by)
        return Verdict("Running", "PodDeleted", why)
    if pod.started:
        told = training.warning or training.stage or "the trainer starts"
        return Verdict("Running", "Running", told if not pod.told_to_stop else f"stopping early and saving; {told}")
    if pod.waiting:
        return _waiting(
            pod.waiting, pod.node, _held_up_for(pod.scheduled or pod.created, previous, at), missing_seconds
        )
    return Verdict("Starting", "Starting", "the pod is starting")


def _held_up_for(start: str, previous: TrainingJobStatus, at: Now) -> timedelta:
    """How long something has been missing since ``start``: a pod that queued for hours has not waited for it yet."""
    stalled = next((c for c in previous.conditions or () if c.type == "Stalled" and c.status == "True"), None)
    return at.since(max(start, stalled.last_transition_time)) if stalled else timedelta()


def _waiting(why: PendingReason, node: str | None, waited: timedelta, missing_seconds: float) -> Verdict:
    """Pending until a node takes the pod, Starting from then on."""
    patience = missing_seconds * _PATIENCE.get(why.kind, float("inf"))
    if waited.total_seconds() > patience:
        return Verdict("Failed", why.reason, f"{why.message}; gave up after {int(patience)} s", stalled=True)
    phase: Phase = "Starting" if node or why.kind == "Starting" else "Pending"
    return Verdict(phase, why.reason, why.message, stalled=why.kind not in ("Capacity", "Starting"))


def _success(facts: Facts, training: Training) -> str:
    outcome = outcome_of(facts)
    if outcome is None:
        return "the trainer ended well, but left no word about its output"
    progress = outcome.progress or training.progress
    steps = f"trained {progress.step} of {progress.total_steps} steps" if progress else "trained"
    early = ", stopped early and saved as asked" if outcome.stopped_early else ""
    return f"{steps}{early}; the model is at {outcome.output.path}" if outcome.output else f"{steps}{early}"


def outcome_of(facts: Facts) -> Outcome | None:
    """The outcome of the newest pod that ended, unless another one is at work."""
    last = facts.last_ended
    if last is None or last.end is None or (facts.current and facts.current.started):
        return None
    return last.end.outcome


def failure_of(verdict: Verdict, plan: Plan, facts: Facts, log_tail: Sequence[str]) -> Failure:
    """Why the job failed: as its pods report it, else as the verdict has it."""
    if facts.job and facts.job.failed:
        return _failure(plan, facts, list(log_tail) or None)
    return Failure(reason=verdict.reason, message=verdict.message)


def _failure(plan: Plan, facts: Facts, log_tail: list[str] | None) -> Failure:
    """Why a Job failed: its trainer's own words, else the kernel's or the node's, else the Job's."""
    assert facts.job is not None and facts.job.failed is not None
    job_reason, job_message = facts.job.failed
    end = facts.failed_pod.end if facts.failed_pod else None
    exit_code = end.exit_code if end else None
    if job_reason == "DeadlineExceeded":
        limit = plan.spec.active_deadline_seconds
        message = f"ran longer than spec.activeDeadlineSeconds ({limit}); raise it to train on from the last checkpoint"
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


def _ending(end: End) -> str:
    return f"{end.reason}: {end.message}" if end.message else end.reason


def awaiting_job_conclusion(plan: Plan, facts: Facts) -> bool:
    """Whether a pod has ended in a way that ends the Job, which does not say so yet: no moment to write a status of."""
    last = facts.failed_pod
    if (
        facts.job is None
        or facts.job.finished
        or facts.job.suspended
        or facts.current
        or last is None
        or last.end is None
    ):
        return False
    if last.end.exit_code == 0 or last.end.exit_code in NO_RETRY:
        return True
    failed = sum(1 for pod in facts.pods if pod.end and _counts(pod.end))
    return failed > (plan.spec.backoff_limit or 0)


def _counts(end: End) -> bool:
    """Whether the Job counts a failure against its ``backoffLimit``."""
    return end.exit_code != WORKER_LOST and end.killed_for not in ("Evicted", "Preempted")
