"""PURE: verdict -> status. ``next_status`` gives it the shape of the API, and keeps what the status holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import ValidationError

from model_garden.contract.crd import MUTABLE
from model_garden.contract.defaults import merge
from model_garden.contract.status import (
    MAX_ATTEMPTS,
    Attempt,
    Condition,
    ConditionType,
    EndReason,
    Failure,
    QueueStatus,
    TrainingJobStatus,
)
from model_garden.controller.kueue import DEACTIVATED
from model_garden.controller.observed import End, Facts, PodFacts
from model_garden.controller.usage import gpu_seconds, usage
from model_garden.controller.verdict import ENDED, Now, Observation, Verdict, job_failure, last_outcome

Object = dict[str, Any]


def read_status(recorded: Object) -> tuple[TrainingJobStatus, list[str]]:
    """A recorded status, and the names of its unreadable fields. Those are dropped; Job and pods give them again."""
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
    """Whether a status is final: nothing is created for it, and nothing in it changes any more."""
    return any(c.type == "Finished" and c.status == "True" for c in status.conditions or ())


def with_generation(status: TrainingJobStatus, now: Now) -> TrainingJobStatus:
    """A final status after a change of ``suspend`` or ``ttlSecondsAfterFinished``.

    Everything in it stays, but the generation: kstatus and ``kubectl wait`` wait until the latest one is observed.
    """
    seen = {"observed_generation": now.generation}
    conditions = [condition.model_copy(update=seen) for condition in status.conditions or ()]
    return status.model_copy(update={"conditions": conditions} | seen)


def next_status(seen: Observation, verdict: Verdict, log_tail: Sequence[str] = ()) -> TrainingJobStatus:
    """The status for a verdict. A status never loses a figure because a pod is gone.

    Args:
        seen: what is known of the TrainingJob.
        verdict: see ``judge``.
        log_tail: the last lines of the failed pod's log; used for a failure only.
    """
    plan, facts, training, previous, now = seen.plan, seen.facts, seen.training, seen.previous, seen.now
    outcome = last_outcome(facts)
    pod = facts.current or facts.last_ended
    trains = plan.step == "train"
    prepared = verdict.reason == "PreflightSucceeded"
    job_exists = facts.job is not None and facts.job.owned
    job_end = facts.job.end_time if facts.job else None
    tried = attempts(seen) if trains else []
    starts = [pod.started for pod in facts.pods if pod.started and trains]
    checkpoint = outcome.checkpoint_step if outcome and outcome.checkpoint_step is not None else training.checkpoint
    return TrainingJobStatus(
        phase=verdict.phase,
        conditions=conditions(previous, verdict, now, job_exists=job_exists),
        missing_since=_missing_since(previous, verdict, now),
        effective_spec=_effective_spec(seen, job_exists=job_exists),
        progress=(outcome and outcome.progress) or training.progress,
        history=list(training.history) or None,
        dataset=training.dataset,
        evaluation=training.evaluation,
        estimate=(outcome.estimate if outcome else None) or previous.estimate,
        fetched=(outcome.fetched if outcome else None) or previous.fetched,
        queue=_queue(seen),
        attempts=(tried[-MAX_ATTEMPTS:] or None) if trains else None,
        usage=usage(previous.usage, previous.attempts or (), tried, seen.price) if trains else None,
        output=(outcome.output if outcome else None) or previous.output,
        failure=_failure(seen, verdict, log_tail) if verdict.phase == "Failed" else None,
        job_name=plan.job_name if job_exists else previous.job_name,
        pod_name=None if prepared else pod.name if pod else previous.pod_name,
        last_checkpoint_step=checkpoint,
        checkpoint_steps=list(training.checkpoints) or None,
        stages=list(training.stages) or None,
        warnings=list(training.warnings) or None,
        preflight_completion_time=job_end if prepared else previous.preflight_completion_time,
        start_time=previous.start_time or min(starts, default=None),
        completion_time=_end(verdict, job_end, now),
        observed_generation=now.generation,
    )


def _missing_since(previous: TrainingJobStatus, verdict: Verdict, now: Now) -> dict[str, str] | None:
    """When each problem was first seen, kept while the job is stalled: of two, now one is reported, now the other."""
    if not verdict.stalled or verdict.phase in ENDED:
        return None
    known = previous.missing_since or {}
    return ({verdict.problem: now.text()} if verdict.problem else {}) | known or None


def _end(verdict: Verdict, job_end: str | None, now: Now) -> str | None:
    """When the job ended; a canceled one ends when its Job is gone, or after a preflight that had succeeded."""
    if verdict.phase not in ENDED:
        return None
    return now.text() if verdict.phase == "Cancelled" else job_end or now.text()


def _queue(seen: Observation) -> QueueStatus | None:
    """The job in Kueue; of a job that has ended, what was known last."""
    workload, job = seen.facts.workload, seen.facts.job
    if workload and workload.queue:
        return QueueStatus(
            name=workload.queue,
            cluster_queue=workload.cluster_queue,
            workload=workload.name,
            position=seen.position if workload.waits else None,
            admission_time=workload.admitted,
        )
    if job and job.queue and not seen.previous.queue:
        return QueueStatus(name=job.queue)
    known = seen.previous.queue
    return known and known.model_copy(update={"position": None})  # who has left the line has no place in it


def _effective_spec(seen: Observation, *, job_exists: bool) -> Object:
    """What the Job was created with, independent of the present settings, except for fields that may change."""
    current = effective = seen.plan.spec.to_dict()
    created_with = seen.previous.effective_spec
    if job_exists and created_with and seen.previous.job_name == seen.plan.job_name:
        kept = {key: value for key, value in created_with.items() if key not in MUTABLE}
        effective = kept | {key: current[key] for key in MUTABLE if key in current}
    outcome = last_outcome(seen.facts)
    return merge(effective, outcome.effective_spec) if outcome and outcome.effective_spec else effective


def _failure(seen: Observation, verdict: Verdict, log_tail: Sequence[str]) -> Failure:
    if seen.facts.job and seen.facts.job.failed:
        return job_failure(seen.plan, seen.facts, list(log_tail) or None)
    return Failure(reason=verdict.reason, message=verdict.message)


def invalid(previous: TrainingJobStatus, problems: Sequence[str], now: Now) -> TrainingJobStatus:
    """The final status of a spec that cannot be run, one line of the message for each field that is wrong."""
    message = "\n".join(problems)
    verdict = Verdict("Failed", "InvalidSpec", message, stalled=True)
    return previous.model_copy(
        update={
            "phase": "Failed",
            "conditions": conditions(previous, verdict, now, job_exists=True),
            "failure": Failure(reason="InvalidSpec", message=message),
            "completion_time": now.text(),
            "observed_generation": now.generation,
        }
    )


def conditions(previous: TrainingJobStatus, verdict: Verdict, now: Now, *, job_exists: bool) -> list[Condition]:
    """All seven conditions. ``Running`` carries the message even when it is False.

    ``Reconciling`` and ``Stalled`` follow kstatus: a job is in progress until its Job exists, or should not exist yet,
    and while Kubernetes starts a pod, since only then something turns out to be missing; Stalled means failed.
    Source: https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md
    """
    ended = verdict.phase in ENDED
    starting = not job_exists or verdict.reason in ("PreflightSucceeded", "Starting", "Retrying")
    truth: dict[ConditionType, bool] = {
        "Reconciling": starting and not verdict.stalled and not ended and verdict.phase != "Suspended",
        "Stalled": verdict.stalled,
        "Queued": verdict.phase == "Queued",
        "Running": verdict.phase == "Running",
        "Complete": verdict.phase == "Succeeded",
        "Failed": verdict.phase == "Failed",
        "Finished": ended,
    }
    before = {condition.type: condition for condition in previous.conditions or ()}
    return [_condition(kind, truth[kind], verdict, before.get(kind), now) for kind in get_args(ConditionType)]


def _condition(kind: ConditionType, holds: bool, verdict: Verdict, before: Condition | None, now: Now) -> Condition:
    status = "True" if holds else "False"
    reason = verdict.phase if kind == "Finished" and holds else verdict.reason
    return Condition(
        type=kind,
        status="True" if holds else "False",
        reason=reason,
        message=verdict.message[:32_000] if holds or kind == "Running" else "",
        observed_generation=now.generation,
        last_transition_time=before.last_transition_time if before and before.status == status else now.text(),
    )


def attempts(seen: Observation) -> list[Attempt]:
    """The pods that started: the last ten so far, and newer ones. The end of each is recorded once."""
    known = seen.previous.attempts or []
    records = {attempt.pod: attempt for attempt in known}
    oldest = (known[0].start_time or "") if len(known) == MAX_ATTEMPTS else ""
    for pod in seen.facts.pods:
        if pod.name not in records and (pod.started or pod.created) < oldest:
            continue  # it was listed before, until ten newer ones were
        if (pod.started or pod.end) and pod.is_an_attempt:
            records[pod.name] = _attempt(records.get(pod.name), pod, seen)
    alive = {pod.name for pod in seen.facts.pods}
    suspended = seen.facts.job is not None and seen.facts.job.suspended
    for name, attempt in records.items():
        if attempt.end_time is None and name not in alive:
            update = {
                "reason": "Stopped" if suspended else "Error",
                "message": "the pod is gone and its end was not seen",
                "end_time": seen.now.text(),
            }
            records[name] = attempt.model_copy(update=update)
    return list(records.values())


def _end_of_attempt(before: Attempt | None, end: End | None, facts: Facts) -> tuple[EndReason | None, str | None]:
    """Why a pod ended. The pod of a job that Kueue stopped knows only that it was stopped; the Workload knows why."""
    if end is None or end.reason != "Stopped":
        return (end.reason, end.message) if end else (None, None)
    if before and before.reason in ("Preempted", "Evicted"):
        return before.reason, before.message  # Kueue forgets its reason with the next admission
    evicted = facts.workload.evicted if facts.workload and facts.job and facts.job.suspended else None
    if evicted is None or evicted.reason.startswith(DEACTIVATED):
        return end.reason, end.message
    return "Preempted" if evicted.reason == "Preempted" else "Evicted", f"Kueue stopped the job: {evicted.message}"


def _attempt(before: Attempt | None, pod: PodFacts, seen: Observation) -> Attempt:
    steps = seen.training.steps_of(pod.name)
    end = pod.end
    to_step = steps.last
    if end and end.outcome and end.outcome.progress:
        to_step = end.outcome.progress.step
    end_time = (before and before.end_time) or (end and (end.time or seen.now.text())) or None
    reason, message = _end_of_attempt(before, end, seen.facts)
    held, trained = gpu_seconds(pod, seen.training, seen.plan.spec.gpus * seen.plan.nodes, end_time)
    return Attempt(
        pod=pod.name,
        node=pod.node,
        reason=reason,
        message=message,
        exit_code=end.exit_code if end else None,
        from_step=steps.first,
        to_step=to_step,
        start_time=pod.started or (before.start_time if before else None),
        end_time=end_time,
        gpu_seconds=held or (before.gpu_seconds if before else None),
        training_gpu_seconds=trained or (before.training_gpu_seconds if before else None),
    )


def message(status: TrainingJobStatus) -> str:
    """The sentence that goes with a status' phase."""
    return next((c.message for c in status.conditions or () if c.type == "Running"), "")


def reason(status: TrainingJobStatus) -> str:
    """The reason of a status' phase."""
    return next((c.reason for c in status.conditions or () if c.type == "Running"), "")


def urgent(before: TrainingJobStatus, after: TrainingJobStatus) -> bool:
    """Whether a change is more than figures and wording, so that it is written at once."""
    return _outline(before) != _outline(after)


def _outline(status: TrainingJobStatus) -> object:
    return (
        status.phase,
        [(c.type, c.status, c.reason) for c in status.conditions or ()],
        [(a.pod, a.reason, a.end_time) for a in status.attempts or ()],
        status.missing_since,
        status.progress is None,
        status.output,
        status.failure,
        status.observed_generation,
    )
