"""PURE: the attempts of a job as the Job and Pods that a cluster would show, which the operator's functions read."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from model_garden.builders.plan import Plan
from model_garden.contract import names
from model_garden.contract.reasons import NO_RETRY

Object = dict[str, Any]


@dataclass(frozen=True)
class AttemptState:
    """One attempt as it is now; ``exit_code`` and ``ended`` are None while it runs."""

    number: int
    started: str
    ended: str | None
    exit_code: int | None
    outcome: str | None
    stop_requested: bool
    save_requested: bool


def conclusion(attempts: Sequence[AttemptState], backoff_limit: int) -> tuple[str, str] | None:
    """How the attempts end the job: the condition and reason of a Job, None while another attempt may follow.

    An attempt that was asked to stop does not count as a failure, as in a Job that is suspended.
    """
    if not attempts or attempts[-1].exit_code is None:
        return None
    last = attempts[-1].exit_code
    if last == 0:
        return "Complete", "Completed"
    if last in NO_RETRY:
        return "Failed", "PodFailurePolicy"
    failures = sum(attempt.exit_code not in (None, 0) and not attempt.stop_requested for attempt in attempts)
    return ("Failed", "BackoffLimitExceeded") if failures > backoff_limit else None


def job(resource: Object, plan: Plan, attempts: Sequence[AttemptState]) -> Object:
    """The Job of a TrainingJob."""
    metadata = resource["metadata"]
    suspended = bool(plan.spec.suspend)
    owner = {"kind": names.KIND, "name": plan.name, "uid": plan.uid, "controller": True}
    ended = conclusion(attempts, plan.spec.backoff_limit)
    conditions = []
    if ended:
        kind, reason = ended
        conditions = [{"type": kind, "status": "True", "reason": reason, "lastTransitionTime": attempts[-1].ended}]
    return {
        "metadata": {
            "name": plan.job_name,
            "uid": f"{plan.uid}-job",
            "creationTimestamp": metadata["creationTimestamp"],
            "ownerReferences": [owner],
            "annotations": {names.SUSPENDED_BY_SPEC: "true"} if suspended else {},
        },
        "spec": {"suspend": suspended},
        "status": {"conditions": conditions},
    }


def pod(training_job: Object, attempt: AttemptState) -> Object:
    """The Pod of an attempt; ``training_job`` is the metadata of its TrainingJob."""
    name, uid = training_job["name"], training_job["uid"]
    job_name = names.job_name(name)
    running = attempt.exit_code is None
    state: Object = {"running": {"startedAt": attempt.started}}
    if not running:
        state = {
            "terminated": {
                "exitCode": attempt.exit_code,
                "startedAt": attempt.started,
                "finishedAt": attempt.ended,
                "message": attempt.outcome,
            }
        }
    return {
        "metadata": {
            **pod_identity(training_job, attempt.number),
            "namespace": training_job["namespace"],
            "uid": f"{uid}-{attempt.number}",
            "creationTimestamp": attempt.started,
            "annotations": {names.ANNOTATION_STOP: "save"} if attempt.save_requested else {},
            "ownerReferences": [{"kind": "Job", "name": job_name, "uid": f"{uid}-job"}],
        },
        "spec": {"nodeName": platform.node(), "containers": [{"name": names.TRAINER_CONTAINER}]},
        "status": {
            "phase": "Running" if running else "Succeeded" if attempt.exit_code == 0 else "Failed",
            "containerStatuses": [{"name": names.TRAINER_CONTAINER, "state": state}],
        },
    }


def pod_identity(training_job: Object, number: int) -> Object:
    """Name and labels of the pod of an attempt."""
    name = training_job["name"]
    return {
        "name": pod_name(names.job_name(name), number),
        "labels": {names.LABEL_JOB: names.label_value(name)},
    }


def pod_name(job_name: str, number: int) -> str:
    """``receipts-train-1`` for the first attempt."""
    return f"{job_name}-{number}"
