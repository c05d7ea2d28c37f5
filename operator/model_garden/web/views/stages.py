"""PURE: the stages of a job's life as a tree, with the time that each took."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from model_garden.contract.pod import gpus_of
from model_garden.services import format
from model_garden.services.job_view import explanation, has_ended, phase
from model_garden.services.trainer_log import STAGES

Object = dict[str, Any]
State = Literal["done", "current", "failed", "next"]


@dataclass(frozen=True)
class StageView:
    """One stage: how far it is, for how long, what it says, and the stages within it."""

    title: str
    state: State
    seconds: float | None = None
    detail: str = ""
    within: tuple[StageView, ...] = ()

    @property
    def duration(self) -> str:
        """The time it took, or has taken so far."""
        return "" if self.seconds is None or self.state == "next" else format.duration(self.seconds)


def stages(job: Object, now: datetime) -> list[StageView]:
    """The stages in order: the preflight where there is one, the wait for a node, and what the trainer does."""
    status = job.get("status") or {}
    created, started = job["metadata"]["creationTimestamp"], status.get("startTime")
    prepared, completed = status.get("preflightCompletionTime"), status.get("completionTime")
    place = _place(job)
    end = completed or now.isoformat()
    wait = "Waiting for a GPU" if _gpus(job) else "Waiting to start"
    found = []
    if prepared or place == "prepare" or (not started and _wants_preflight(job)):
        state = _state(job, "prepare", place)
        within = tuple(_reported(job, "preflight", state, prepared or end)) if state != "next" else ()
        found.append(_stage(job, "Preparing", state, (created, prepared or end), within))
    state = _state(job, "wait", place)
    since = prepared or created
    until = started if state == "done" else end
    if state == "current" and (last := (status.get("attempts") or [{}])[-1].get("endTime")):
        since = last
    found.append(_stage(job, wait, state, (since, until)))
    state = _state(job, "run", place)
    within = tuple(_reported(job, "train", state, end))
    return [*found, _stage(job, "Training run", state, (started, end), within)]


def _stage(
    job: Object, title: str, state: State, time: tuple[str | None, str | None], within: tuple[StageView, ...] = ()
) -> StageView:
    """A stage of the top level. What the job says stands at the deepest stage that is current or failed."""
    says = "" if within or state not in ("current", "failed") else _says(job)
    return StageView(title, state, format.seconds_between(*time), says, within)


def _state(job: Object, stage: str, place: str) -> State:
    order = ("prepare", "wait", "run", "end")
    if stage == place:
        return "failed" if has_ended(job) else "current"
    return "done" if order.index(stage) < order.index(place) else "next"


def _place(job: Object) -> str:
    """Where the job is, or where it ended: ``prepare``, ``wait``, ``run``, or ``end`` for one that succeeded."""
    status, at = job.get("status") or {}, phase(job)
    if at == "Succeeded":
        return "end"
    if at in ("Preparing", "Running"):
        return {"Preparing": "prepare", "Running": "run"}[at]
    if has_ended(job) and status.get("startTime"):
        return "run"
    if has_ended(job) and not status.get("preflightCompletionTime") and _wants_preflight(job):
        return "prepare"
    return "wait"


def _reported(job: Object, step: str, group: State, end: str) -> list[StageView]:
    """What the last pod of a step reported; before that, the stages that are to come."""
    status = job.get("status") or {}
    pods = {one["pod"]: one.get("endTime") for one in status.get("attempts") or ()}
    times = [one for one in status.get("stages") or () if (one["pod"] in pods) == (step == "train")]
    own = [one for one in times if one["pod"] == times[-1]["pod"]]
    by_stage = {one["stage"]: one for one in own}
    last = own[-1] if own else None
    expected = _expected(job) if step == "train" and not (group == "done" and own) else set()
    names = [name for name in STAGES if name in by_stage or name in expected]
    found = []
    for number, name in enumerate(names):
        one = by_stage.get(name)
        state: State = "done" if group == "done" or (one and one is not last) else "next"
        if group in ("current", "failed") and (one is last if last else number == 0):
            state = group
        seconds = _seconds(one, pods.get(one["pod"]) or end, left=one is not last) if one else None
        says = _says(job) if state == "failed" else (one or {}).get("detail") or ""
        found.append(StageView(STAGES[name], state, seconds, says))
    return found


def _seconds(one: Object, end: str, *, left: bool) -> float:
    since = 0.0 if left else format.seconds_between(one["enteredTime"], end) or 0.0
    return float(one["seconds"]) + max(0.0, since)


def _says(job: Object) -> str:
    """What the job says of its phase, where that is not only the name of a stage."""
    said = explanation(job)
    return "" if said.partition(":")[0] in STAGES else said


def _expected(job: Object) -> set[str]:
    """The stages that the trainer of this job goes through."""
    status = job.get("status") or {}
    spec = status.get("effectiveSpec") or job["spec"]
    exports = spec.get("saveMethod", "lora") != "lora" or spec.get("pushToHub")
    evaluates = spec.get("validationDatasetPath") or spec.get("validationFraction")
    left_out = {"exporting"} if not exports else set()
    return set(STAGES) - left_out - (set() if evaluates else {"evaluating"})


def _gpus(job: Object) -> bool:
    spec = (job.get("status") or {}).get("effectiveSpec") or job["spec"]
    return gpus_of(spec.get("resources")) > 0


def _wants_preflight(job: Object) -> bool:
    spec = (job.get("status") or {}).get("effectiveSpec") or job["spec"]
    return spec.get("preflight") != "Disabled" and _gpus(job)
