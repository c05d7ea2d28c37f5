"""Runs the TrainingJobs of this machine in their order, one at a time, and writes their status.

Each round computes everything anew from the jobs and the folders of their attempts. It may be interrupted anywhere: the
next server continues, and finds a trainer that still runs.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from model_garden.builders.plan import Plan
from model_garden.contract.defaults import effective_spec
from model_garden.contract.names import WORKSPACE
from model_garden.contract.progress import parse_event
from model_garden.contract.resource import InvalidResource, parse_spec
from model_garden.contract.spec import outside_workspace
from model_garden.contract.status import TrainingJobStatus
from model_garden.contract.trainer_config import TrainerConfig
from model_garden.controller.observed import Facts, derive_facts
from model_garden.controller.pod_reasons import PendingReason
from model_garden.controller.status import finished, invalid, next_status, read_status, urgent
from model_garden.controller.trainer_events import Training, fold, recorded
from model_garden.controller.verdict import Now, Observation, judge, now_for
from model_garden.local import objects, process
from model_garden.local.process import Attempt
from model_garden.local.store import NAMESPACE, LocalStore

_log = logging.getLogger(__name__)

Object = dict[str, Any]

ROUND_SECONDS = 0.5
PROGRESS_SECONDS = 1.0
RETRY_SECONDS = 10.0
"""Pause before the first retry; it doubles with each, as a Job's does."""
TAIL_LINES = 20


@dataclass
class _Log:
    """How far an attempt's log was read, and its last lines that are no events."""

    offset: int = 0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))


@dataclass(frozen=True)
class _Seen:
    """An attempt, and its state when this round looked at it."""

    attempt: Attempt
    state: objects.AttemptState


@dataclass
class _Job:
    """What is kept of a TrainingJob between rounds."""

    training: Training
    logs: dict[int, _Log] = field(default_factory=dict)
    written: float = 0.0


class Runner:
    """The jobs of ``store``, run in ``workspace``.

    Args:
        store: the TrainingJobs.
        folder: holds a folder for each job, by uid, with its attempts.
        workspace: the trainers' working directory.
    """

    def __init__(self, store: LocalStore, folder: Path, workspace: Path) -> None:
        self._store, self._folder, self._workspace = store, folder, workspace
        self._jobs: dict[str, _Job] = {}
        self._over: set[str] = set()
        self._gpus = process.gpus()

    async def run(self) -> None:
        """Run jobs until canceled. Trainers that run at that time continue."""
        while True:
            version = self._store.version
            self.round()
            await self._store.wait(version, ROUND_SECONDS)

    def training(self) -> str | None:
        """The job whose trainer runs."""
        jobs = self._store.all()
        return _running(jobs, self._look_at(jobs))

    def round(self) -> None:
        """Advance every job once."""
        jobs = sorted(self._store.all(), key=lambda job: (job["metadata"]["creationTimestamp"], int(_version(job))))
        uids = {job["metadata"]["uid"] for job in jobs}
        self._over &= uids
        deleted = self._end_deleted(uids)
        seen = self._look_at(jobs)
        busy = _running(jobs, seen) or deleted
        for job in jobs:
            uid = job["metadata"]["uid"]
            if uid not in seen:
                continue
            status, _ = read_status(job.get("status") or {})
            if finished(status):
                if busy != job["metadata"]["name"]:
                    self._over.add(uid)
                continue
            try:
                plan = self._plan(job)
            except InvalidResource as error:
                self._write(job, status, invalid(status, error.problems, _now(job)))
                continue
            mine = busy == plan.name
            if busy is None and not plan.spec.suspend and not plan.cancelled:
                busy, mine = plan.name, True
            self._advance(job, plan, status, seen[uid], None if mine else busy)

    def _plan(self, job: Object) -> Plan:
        metadata, spec = job["metadata"], parse_spec(job["spec"])
        if problems := outside_workspace(spec):
            raise InvalidResource([problem.replace(WORKSPACE, str(self._workspace)) for problem in problems])
        return Plan(
            name=metadata["name"],
            namespace=NAMESPACE,
            uid=metadata["uid"],
            spec=effective_spec(spec, metadata["name"], local_gpus=min(spec.gpus, self._gpus)),
            labels=metadata.get("labels") or {},
            annotations=metadata.get("annotations") or {},
        )

    def _advance(
        self, job: Object, plan: Plan, status: TrainingJobStatus, attempts: list[_Seen], waits_for: str | None
    ) -> None:
        self._control(plan, attempts)
        if self._is_due(plan, attempts, waits_for):
            self._start(plan)
            attempts = self._look(plan.uid)
        kept = self._jobs.setdefault(plan.uid, _Job(recorded(status)))
        for one in attempts:
            self._read_log(kept, plan, one.attempt)
        facts = self._facts(job, plan, [one.state for one in attempts], waits_for)
        seen = Observation(plan, facts, kept.training, status, _now(job))
        after = next_status(seen, judge(seen, float("inf")), _tail(kept, attempts))
        if after != status and (urgent(status, after) or time.monotonic() - kept.written >= PROGRESS_SECONDS):
            kept.written = time.monotonic()
            self._write(job, status, after)

    def _facts(self, job: Object, plan: Plan, states: list[objects.AttemptState], waits_for: str | None) -> Facts:
        pods = [objects.pod(job["metadata"], state) for state in states]
        if plan.cancelled and not any(state.exit_code is None for state in states):
            return derive_facts(job["metadata"], None, pods)
        facts = derive_facts(job["metadata"], objects.job(job, plan, states), pods)
        if waits_for and facts.job and not states:
            why = PendingReason(
                "Capacity", "WaitingForTurn", f"this machine trains one job at a time; {waits_for} is running now"
            )
            facts = replace(facts, job=replace(facts.job, start_problem=why))
        return facts

    def _control(self, plan: Plan, attempts: list[_Seen]) -> None:
        """Pass a request to cancel, suspend, or stop and save to the trainer that runs."""
        running = [one.attempt for one in attempts if one.state.exit_code is None]
        for attempt in running:
            if plan.cancelled or plan.spec.suspend:
                attempt.request_stop()
            elif plan.stop_and_save:
                attempt.request_save()

    def _is_due(self, plan: Plan, attempts: list[_Seen], waits_for: str | None) -> bool:
        """Whether the next attempt is to start now."""
        if waits_for or plan.cancelled or plan.spec.suspend:
            return False
        states = [one.state for one in attempts]
        if not states:
            return True
        if states[-1].exit_code is None or objects.conclusion(states, plan.spec.backoff_limit):
            return False
        if states[-1].stop_requested:
            return True
        pause = RETRY_SECONDS * 2.0 ** (len(states) - 1)
        return time.time() - attempts[-1].attempt.log.stat().st_mtime >= pause

    def _start(self, plan: Plan) -> None:
        config = TrainerConfig(name=plan.name, spec=plan.spec, uid=plan.uid)
        process.start(self._folder / plan.uid, config, self._workspace)
        _log.info("%s: the trainer starts", plan.name)

    def _look(self, uid: str) -> list[_Seen]:
        """The attempts of a job as they are now."""
        return [_Seen(attempt, state_of(attempt)) for attempt in process.attempts(self._folder / uid)]

    def _look_at(self, jobs: list[Object]) -> dict[str, list[_Seen]]:
        """The attempts of each job by its uid; jobs that are over, which change no more, are left out."""
        uids = (job["metadata"]["uid"] for job in jobs)
        return {uid: self._look(uid) for uid in uids if uid not in self._over}

    def _read_log(self, kept: _Job, plan: Plan, attempt: Attempt) -> None:
        log = kept.logs.setdefault(attempt.number, _Log())
        with attempt.log.open("rb") as file:
            file.seek(log.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                log.offset += len(line)
                text = line.decode(errors="replace").rstrip()
                if event := parse_event(text):
                    kept.training = fold(kept.training, objects.pod_name(plan.job_name, attempt.number), event)
                elif text:
                    log.tail.append(text)

    def _end_deleted(self, uids: set[str]) -> str | None:
        """End the trainers of deleted jobs, and remove their folders; "a deleted job" while one of them still runs."""
        found = None
        for folder in self._folder.glob("*"):
            if folder.name in uids:
                continue
            running = [attempt for attempt in process.attempts(folder) if attempt.exit_code is None]
            for attempt in running:
                attempt.request_stop()
                found = "a deleted job"
            if not running:
                shutil.rmtree(folder, ignore_errors=True)
                self._jobs.pop(folder.name, None)
        return found

    def _write(self, job: Object, before: TrainingJobStatus, after: TrainingJobStatus) -> None:
        self._store.replace(job | {"status": after.to_dict()})
        if after.phase != before.phase:
            _log.info("%s: %s -> %s", job["metadata"]["name"], before.phase or "new", after.phase)


def _running(jobs: list[Object], seen: dict[str, list[_Seen]]) -> str | None:
    """The job whose trainer runs."""
    for job in jobs:
        if any(one.state.exit_code is None for one in seen.get(job["metadata"]["uid"], ())):
            return str(job["metadata"]["name"])
    return None


def state_of(attempt: Attempt) -> objects.AttemptState:
    """An attempt's folder as plain values."""
    outcome, exit_code = attempt.termination_log, attempt.exit_code
    return objects.AttemptState(
        number=attempt.number,
        started=attempt.started,
        ended=None if exit_code is None else attempt.ended,
        exit_code=exit_code,
        outcome=outcome.read_text() if outcome.exists() else None,
        stop_requested=attempt.stop_requested,
        save_requested=attempt.save_requested,
    )


def _tail(kept: _Job, attempts: list[_Seen]) -> list[str]:
    return list(kept.logs[attempts[-1].attempt.number].tail) if attempts else []


def _version(job: Object) -> str:
    return str(job["metadata"]["resourceVersion"])


def _now(job: Object) -> Now:
    return now_for(job["metadata"]["generation"])
