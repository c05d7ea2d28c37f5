"""PURE: a verdict and facts -> the status that says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from pydantic import ValidationError

from model_garden.builders.plan import Plan
from model_garden.contract.crd import MUTABLE
from model_garden.contract.defaults import merge
from model_garden.contract.status import (
    MAX_ATTEMPTS,
    Attempt,
    Condition,
    ConditionType,
    Failure,
    Phase,
    TrainingJobStatus,
)
from model_garden.controller.observed import Facts, PodFacts
from model_garden.controller.trainer_events import Training
from model_garden.controller.verdict import Now, Object, Verdict, failure_of, outcome_of

ENDED: tuple[Phase, ...] = ("Succeeded", "Failed", "Cancelled")


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


def next_status(
    previous: TrainingJobStatus,
    verdict: Verdict,
    plan: Plan,
    facts: Facts,
    training: Training,
    at: Now,
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
    outcome = outcome_of(facts)
    told = (outcome and outcome.progress) or training.progress
    pod = facts.current or facts.last_ended
    training_step = plan.step == "train"
    starts = [pod.started for pod in facts.pods if pod.started and training_step]
    prepared = verdict.reason == "PreflightSucceeded"
    ended = verdict.phase in ENDED
    job_exists = facts.job is not None and facts.job.owned
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
        failure=failure_of(verdict, plan, facts, log_tail) if verdict.phase == "Failed" else None,
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


def invalid(previous: TrainingJobStatus, problems: Sequence[str], at: Now) -> TrainingJobStatus:
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


def conditions(previous: TrainingJobStatus, verdict: Verdict, at: Now, *, job_exists: bool) -> list[Condition]:
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


def _condition(kind: ConditionType, holds: bool, verdict: Verdict, before: Condition | None, at: Now) -> Condition:
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


def attempts(previous: Sequence[Attempt], facts: Facts, training: Training, at: Now) -> list[Attempt]:
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


def _attempt(before: Attempt | None, pod: PodFacts, training: Training, at: Now) -> Attempt:
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
