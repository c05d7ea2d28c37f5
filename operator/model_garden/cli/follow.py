"""Follow a TrainingJob until it ends: ``watch``, ``logs``, and ``--wait``, ``--watch`` and ``--logs`` of ``submit``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import Enum

from model_garden.cli.access import with_cluster
from model_garden.cli.display import Display
from model_garden.cli.output import FAILED, CommandError, error, note
from model_garden.cli.report import print_summary
from model_garden.cluster import Cluster, Object
from model_garden.services import format
from model_garden.services.job_view import explained_phase, explanation, has_ended, is_vision, log_tail, losses, phase
from model_garden.services.logs import follow_job_log, read_log
from model_garden.services.queries import find_job, watch_job
from model_garden.services.trainer_log import log_line


class Follow(Enum):
    """What to show of a job until it ends."""

    NO = "no"
    WAIT = "wait"
    WATCH = "watch"
    LOGS = "logs"

    @classmethod
    def of(cls, wait: bool, watch: bool, logs: bool) -> Follow:
        """What the flags ask for.

        Raises:
            CommandError: both ``--watch`` and ``--logs`` were given.
        """
        if watch and logs:
            raise CommandError("--watch and --logs cannot be used together")
        return cls.LOGS if logs else cls.WATCH if watch else cls.WAIT if wait else cls.NO


def follow_job(name: str, how: Follow, *, namespace: str | None, context: str | None) -> None:
    """Follow a job until it ends; exit with 0 if it succeeded, else with 1."""

    async def work(cluster: Cluster, namespace: str) -> Object:
        return await until_end(cluster, await find_job(cluster, namespace, name), how)

    conclude(with_cluster(work, context=context, namespace=namespace, detach_hint=detach_hint(name)))


def detach_hint(name: str) -> str:
    """What Ctrl-C prints while the job runs."""
    return f"This command ended; the job {name} continues. Show it again with: model-garden watch {name}"


async def until_end(cluster: Cluster, job: Object, how: Follow) -> Object:
    """Show the job as ``how`` says until it ends, and return its last state.

    Raises:
        NotFound: the job was deleted.
    """
    if how is Follow.LOGS:
        return await _show_log(cluster, job, _print_log_line)
    if how is Follow.WAIT:
        return [state async for state in watch_job(cluster, job)][-1]
    with Display(phase(job)) as display:
        async for state in watch_job(cluster, job):
            job = state
            _show_status(job, display)
    return job


def _show_status(job: Object, display: Display) -> None:
    """Show the phase, why the job waits, and its progress."""
    progress = (job.get("status") or {}).get("progress")
    if not has_ended(job):  # conclude reports the result
        display.stage(phase(job), explanation(job))
    if progress:
        display.progress(progress, losses(job))


def conclude(job: Object) -> None:
    """Report the result of a job that has ended, and exit with 0 if it succeeded, else with 1."""
    status = job.get("status") or {}
    seconds = format.seconds_between(status.get("startTime"), status.get("completionTime"))
    result = phase(job) + (f" in {format.duration(seconds)}" if seconds is not None else "")
    if status.get("output"):
        print_summary(result, status["output"], status.get("progress") or {}, losses(job), is_vision(job))
    if phase(job) == "Succeeded":
        note(f"Download the model with: model-garden download {job['metadata']['name']}")
        sys.exit(0)
    for line in filter(log_line, log_tail(job)):
        note(f"  {line}")
    ended = "was cancelled" if phase(job) == "Cancelled" else "failed"
    error(f"{job['metadata']['name']} {ended}: {explanation(job)}".removesuffix(": "))
    sys.exit(FAILED)


async def _show_log(cluster: Cluster, job: Object, show: Callable[[str], None]) -> Object:
    """Show each line of the log, and before the first pod runs, why the job waits; return the last state of the job."""
    shown = ""
    async for item in follow_job_log(cluster, watch_job(cluster, job)):
        if isinstance(item, str):
            show(item)
            continue
        job = item
        has_pod = (job.get("status") or {}).get("podName")
        if explained_phase(job) != shown and not has_pod and not has_ended(job):
            shown = explained_phase(job)
            note(shown)
    return job


def print_logs(
    name: str, *, follow: bool, tail: int | None, raw: bool, namespace: str | None, context: str | None
) -> None:
    """Print the log of the job's latest pod; with ``follow``, also those of later pods, until the job ends."""
    if follow and tail is not None:
        raise CommandError("--follow and --tail cannot be used together")
    show = _print_raw if raw else _print_log_line

    async def work(cluster: Cluster, namespace: str) -> None:
        job = await find_job(cluster, namespace, name)
        if follow and not has_ended(job):
            await _show_log(cluster, job, show)
            return
        log = await read_log(cluster, job, tail)
        if log.from_status:
            note(f"The pod of {job['metadata']['name']} is gone; these are the last lines of its log, from the status.")
        for line in log.lines:
            show(line)

    with_cluster(work, context=context, namespace=namespace, detach_hint=detach_hint(name) if follow else "")


def _print_raw(line: str) -> None:
    print(line, flush=True)


def _print_log_line(line: str) -> None:
    if (shown := log_line(line)) is not None:
        print(shown, flush=True)
