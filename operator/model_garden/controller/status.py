"""PURE: facts -> status. First a verdict (the phase, and why), then the status that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from pydantic import ValidationError

from model_garden.builders.plan import Plan
from model_garden.contract.crd import MUTABLE
from model_garden.contract.defaults import merge
from model_garden.contract.names import KIND
from model_garden.contract.progress import Outcome
from model_garden.contract.reasons import NO_RETRY, WORKER_LOST, reason_of_exit_code
from model_garden.contract.status import (
    MAX_ATTEMPTS,
    Attempt,
    Condition,
    ConditionType,
    Failure,
    Phase,
    TrainingJobStatus,
)
from model_garden.controller import pod_reasons
from model_garden.controller.observed import End, Facts, JobFacts, PodFacts
from model_garden.controller.pod_reasons import Blocked, Waiting
from model_garden.controller.trainer_events import Training

Object = dict[str, Any]

ENDED: tuple[Phase, ...] = ("Succeeded", "Failed", "Cancelled")

_NODE_ANSWERS_WITHIN = timedelta(seconds=15)
"""How long after a pod's time to stop its end is waited for before its node counts as lost."""

_PATIENCE: dict[Blocked, float] = {"Missing": 1, "Refused": 1, "Image": 6}
"""How many times ``missing_seconds`` is waited: for a registry longer, for room in the cluster without an end."""


@dataclass(frozen=True)
class Verdict:
    """The phase, a CamelCase reason and a sentence; ``stalled``: it will not go on without somebody's help."""

    phase: Phase
    reason: str
    message: str
    stalled: bool = False


@dataclass(frozen=True)
class Moment:
    """When and about which generation a status is computed."""

    now: datetime
    generation: int

    def text(self) -> str:
        """The time as ``metav1.Time`` spells it."""
        return self.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def since(self, time: str) -> timedelta:
        """How long ago a ``metav1.Time`` was."""
        return self.now - datetime.fromisoformat(time)


def moment(generation: int) -> Moment:
    """Now."""
    return Moment(datetime.now(UTC), generation)


def read_status(recorded: Object) -> tuple[TrainingJobStatus, list[str]]:
    """A recorded status, and what in it cannot be read: that is left out, to be found again in Job and pods."""
    lost: list[str] = []
    while True:
        try:
            return TrainingJobStatus.model_validate(recorded), lost
        except ValidationError as error:
            field, *rest = error.errors()[0]["loc"] or (None,)
            if not isinstance(field, str) or field not in recorded:
                return TrainingJobStatus(), ["status"]
            lost.append(f"status.{field}")
            kept: Object = {key: value for key, value in recorded.items() if key != field}
            if rest and isinstance(rest[0], int):  # one item of a list: the others are kept
                lost[-1] += f"[{rest[0]}]"
                kept[field] = [item for place, item in enumerate(recorded[field]) if place != rest[0]]
            recorded = kept


def finished(status: TrainingJobStatus) -> bool:
    """Whether a status is final: from then on nothing is created for it and nothing in it changes."""
    return any(c.type == "Finished" and c.status == "True" for c in status.conditions or ())


def judge(
    plan: Plan, facts: Facts, training: Training, previous: TrainingJobStatus, at: Moment, missing_seconds: float
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
    if not job.ours:
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


def _not_stopped(facts: Facts, at: Moment) -> Verdict | None:
    """The verdict on a job whose pod was to be gone by now, as when its node is lost; None for any other."""
    pod = facts.stopping
    if pod is None or pod.delete_by is None or until_overdue(facts, at) > 0:
        return None
    why = pod_reasons.not_stopped(pod.name, pod.node, pod.delete_reason, pod.delete_by)
    return Verdict("Pending", "NodeNotResponding", why, stalled=True)


def until_overdue(facts: Facts, at: Moment) -> float:
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
    facts: Facts, training: Training, previous: TrainingJobStatus, at: Moment, missing_seconds: float
) -> Verdict:
    assert facts.job is not None
    pod = facts.held_up or facts.current
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


def _held_up_for(start: str, previous: TrainingJobStatus, at: Moment) -> timedelta:
    """How long something has been missing since ``start``: a pod that queued for hours has not waited for it yet."""
    stalled = next((c for c in previous.conditions or () if c.type == "Stalled" and c.status == "True"), None)
    return at.since(max(start, stalled.last_transition_time)) if stalled else timedelta()


def _waiting(why: Waiting, node: str | None, waited: timedelta, missing_seconds: float) -> Verdict:
    """Pending until a node takes the pod, Starting from then on."""
    patience = missing_seconds * _PATIENCE.get(why.kind, float("inf"))
    if waited.total_seconds() > patience:
        return Verdict("Failed", why.reason, f"{why.message}; gave up after {int(patience)} s", stalled=True)
    phase: Phase = "Starting" if node or why.kind == "Starting" else "Pending"
    return Verdict(phase, why.reason, why.message, stalled=why.kind not in ("Capacity", "Starting"))


def _success(facts: Facts, training: Training) -> str:
    outcome = _outcome(facts)
    if outcome is None:
        return "the trainer ended well, but left no word about its output"
    progress = outcome.progress or training.progress
    steps = f"trained {progress.step} of {progress.total_steps} steps" if progress else "trained"
    early = ", stopped early and saved as asked" if outcome.stopped_early else ""
    return f"{steps}{early}; the model is at {outcome.output.path}" if outcome.output else f"{steps}{early}"


def next_status(
    previous: TrainingJobStatus,
    verdict: Verdict,
    plan: Plan,
    facts: Facts,
    training: Training,
    at: Moment,
    log_tail: Sequence[str] = (),
) -> TrainingJobStatus:
    """The status for a verdict. What is known stays: a status never loses a figure because a pod is gone.

    Args:
        previous: the status until now.
        verdict: see ``judge``.
        plan: what should be.
        facts: what is.
        training: what the trainers told.
        at: now.
        log_tail: the last lines of the failed pod's log; for a failure only.
    """
    outcome = _outcome(facts)
    told = (outcome and outcome.progress) or training.progress
    pod = facts.current or facts.last_ended
    training_step = plan.step == "train"
    starts = [pod.started for pod in facts.pods if pod.started and training_step]
    prepared = verdict.reason == "PreflightSucceeded"
    ended = verdict.phase in ENDED
    job_exists = facts.job is not None and facts.job.ours
    effective = plan.spec.to_dict()
    if job_exists and previous.effective_spec and previous.job_name == plan.job_name:
        effective = _as_started(previous.effective_spec, effective)
    checkpoint = outcome.checkpoint_step if outcome and outcome.checkpoint_step is not None else training.checkpoint
    return TrainingJobStatus(
        phase=verdict.phase,
        conditions=conditions(previous, verdict, at, job_exists=job_exists),
        effective_spec=merge(effective, outcome.effective_spec) if outcome and outcome.effective_spec else effective,
        progress=told,
        history=list(training.history) or None,
        dataset=training.dataset,
        estimate=(outcome.estimate if outcome else None) or previous.estimate,
        attempts=(attempts(previous.attempts or (), facts, training, at) or None) if training_step else None,
        output=(outcome.output if outcome else None) or previous.output,
        failure=_failure_of(verdict, plan, facts, log_tail) if verdict.phase == "Failed" else None,
        job_name=plan.job_name if job_exists else previous.job_name,
        pod_name=None if prepared else pod.name if pod else previous.pod_name,
        last_checkpoint_step=checkpoint,
        preflight_completion_time=facts.job.end_time if prepared and facts.job else previous.preflight_completion_time,
        start_time=previous.start_time or min(starts, default=None),
        completion_time=((facts.job and facts.job.end_time) or at.text()) if ended else None,
        observed_generation=at.generation,
    )


def _as_started(started_with: Object, today: Object) -> Object:
    """What the Job was made of, whatever the operator's settings are today; but for what may be changed on the way."""
    kept = {key: value for key, value in started_with.items() if key not in MUTABLE}
    return kept | {key: today[key] for key in MUTABLE if key in today}


def invalid(previous: TrainingJobStatus, problems: Sequence[str], at: Moment) -> TrainingJobStatus:
    """The final status of a spec that cannot be run, one line of the message for each field that is wrong."""
    message = "\n".join(problems)
    verdict = Verdict("Failed", "InvalidSpec", message, stalled=True)
    return previous.model_copy(
        update={
            "phase": "Failed",
            "conditions": conditions(previous, verdict, at, job_exists=True),
            "failure": Failure(reason="InvalidSpec", message=message),
            "completion_time": at.text(),
            "observed_generation": at.generation,
        }
    )


def conditions(previous: TrainingJobStatus, verdict: Verdict, at: Moment, *, job_exists: bool) -> list[Condition]:
    """All seven conditions; ``Running`` carries the message also while it is False.

    ``Reconciling`` and ``Stalled`` are kstatus': in progress until the Job exists or is not to be yet, and failed.
    """
    ended = verdict.phase in ENDED
    truth: dict[ConditionType, bool] = {
        "Reconciling": not job_exists and not verdict.stalled and not ended and verdict.phase != "Suspended",
        "Stalled": verdict.stalled,
        "Queued": verdict.phase == "Queued",
        "Running": verdict.phase == "Running",
        "Complete": verdict.phase == "Succeeded",
        "Failed": verdict.phase == "Failed",
        "Finished": ended,
    }
    before = {condition.type: condition for condition in previous.conditions or ()}
    return [_condition(kind, truth[kind], verdict, before.get(kind), at) for kind in get_args(ConditionType)]


def _condition(kind: ConditionType, holds: bool, verdict: Verdict, before: Condition | None, at: Moment) -> Condition:
    status = "True" if holds else "False"
    reason = verdict.phase if kind == "Finished" and holds else verdict.reason
    return Condition(
        type=kind,
        status="True" if holds else "False",
        reason=reason,
        message=verdict.message[:32_000] if holds or kind == "Running" else "",
        observed_generation=at.generation,
        last_transition_time=before.last_transition_time if before and before.status == status else at.text(),
    )


def attempts(previous: Sequence[Attempt], facts: Facts, training: Training, at: Moment) -> list[Attempt]:
    """The last ten pods that started: each once, its ending noted once."""
    records = {attempt.pod: attempt for attempt in previous}
    for pod in facts.pods:
        if (pod.started or pod.end) and pod.is_an_attempt:
            records[pod.name] = _attempt(records.get(pod.name), pod, training, at)
    alive = {pod.name for pod in facts.pods}
    suspended = facts.job is not None and facts.job.suspended
    for name, attempt in records.items():
        if attempt.end_time is None and name not in alive:
            update = {
                "reason": "Stopped" if suspended else "Error",
                "message": "the pod is gone, and how it ended was not seen",
                "end_time": at.text(),
            }
            records[name] = attempt.model_copy(update=update)
    return list(records.values())[-MAX_ATTEMPTS:]


def _attempt(before: Attempt | None, pod: PodFacts, training: Training, at: Moment) -> Attempt:
    steps = training.steps_of(pod.name)
    end = pod.end
    to_step = steps.last
    if end and end.outcome and end.outcome.progress:
        to_step = end.outcome.progress.step
    end_time = (before and before.end_time) or (end and (end.time or at.text())) or None
    return Attempt(
        pod=pod.name,
        node=pod.node,
        reason=end.reason if end else None,
        message=end.message if end else None,
        exit_code=end.exit_code if end else None,
        from_step=steps.first,
        to_step=to_step,
        start_time=pod.started or (before.start_time if before else None),
        end_time=end_time,
    )


def _outcome(facts: Facts) -> Outcome | None:
    """The outcome of the newest pod that ended, unless another one is at work."""
    last = facts.last_ended
    if last is None or last.end is None or (facts.current and facts.current.started):
        return None
    return last.end.outcome


def _failure_of(verdict: Verdict, plan: Plan, facts: Facts, log_tail: Sequence[str]) -> Failure:
    if facts.job and facts.job.failed:
        return _failure(plan, facts, list(log_tail) or None)
    return Failure(reason=verdict.reason, message=verdict.message)


def _failure(plan: Plan, facts: Facts, log_tail: list[str] | None) -> Failure:
    """Why a Job failed: its trainer's own words, else the kernel's or the node's, else the Job's."""
    assert facts.job is not None and facts.job.failed is not None
    job_reason, job_message = facts.job.failed
    end = facts.culprit.end if facts.culprit else None
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


def about_to_end(plan: Plan, facts: Facts) -> bool:
    """Whether a pod has ended in a way that ends the Job, which does not say so yet: no moment to write a status of."""
    last = facts.culprit
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


def message(status: TrainingJobStatus) -> str:
    """The sentence that goes with a status' phase."""
    return next((c.message for c in status.conditions or () if c.type == "Running"), "")


def urgent(before: TrainingJobStatus, after: TrainingJobStatus) -> bool:
    """Whether a change is more than figures and wording, and so worth a patch at once."""
    return _outline(before) != _outline(after)


def _outline(status: TrainingJobStatus) -> object:
    return (
        status.phase,
        [(c.type, c.status, c.reason) for c in status.conditions or ()],
        [(a.pod, a.reason, a.end_time) for a in status.attempts or ()],
        status.progress is None,
        status.output,
        status.failure,
        status.observed_generation,
    )
