"""``watch``, ``logs``, and ``--wait``, ``--watch`` and ``--logs`` of ``submit``: a job of the cluster until its end."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from enum import Enum

from model_garden.cli.access import find_job, with_cluster
from model_garden.cli.display import Display
from model_garden.cli.events import log_line
from model_garden.cli.output import FAILED, CommandError, error, note
from model_garden.cli.report import print_summary
from model_garden.cluster import PODS, TRAINING_JOBS, Cluster, ClusterError, Object, Snapshot, follow_log, observe
from model_garden.contract.names import LABEL_JOB, TRAINER_CONTAINER, label_value
from model_garden.services import format
from model_garden.services.job_view import FINAL, explanation, is_vision, log_tail, losses, phase


class Follow(Enum):
    """How closely a job is followed."""

    NO = "no"
    WAIT = "wait"
    WATCH = "watch"
    LOGS = "logs"

    @classmethod
    def of(cls, wait: bool, watch: bool, logs: bool) -> Follow:
        """What the flags ask for.

        Raises:
            CommandError: both the bar and the log were asked for.
        """
        if watch and logs:
            raise CommandError("--watch and --logs: give one of them")
        return cls.LOGS if logs else cls.WATCH if watch else cls.WAIT if wait else cls.NO


def follow_job(name: str, how: Follow, *, namespace: str | None, context: str | None) -> None:
    """Follow a job until it has ended; exit 0 only if it succeeded."""

    async def work(cluster: Cluster, namespace: str) -> Object:
        job = await find_job(cluster, namespace, name)
        return await until_end(cluster, job, how)

    conclude(with_cluster(work, context=context, namespace=namespace, goes_on=goes_on(name)))


def goes_on(name: str) -> str:
    """What is said when a person leaves while the job runs."""
    return f"left; the job goes on. Come back with: model-garden watch {name}"


async def until_end(cluster: Cluster, job: Object, how: Follow) -> Object:
    """The job as it was when it had ended, shown meanwhile as ``how`` says.

    Raises:
        CommandError: it was deleted.
    """
    if how is Follow.LOGS:
        return await _with_log(cluster, job, _print_log_line)
    if how is Follow.WAIT:
        return [state async for state in states(cluster, job)][-1]
    with Display(phase(job)) as display:
        async for state in states(cluster, job):
            job = state
            show_status(job, display)
    return job


async def states(cluster: Cluster, job: Object) -> AsyncIterator[Object]:
    """The job now and after each change, until it has ended."""
    name, namespace, uid = (job["metadata"][key] for key in ("name", "namespace", "uid"))
    async for change in observe(cluster, TRAINING_JOBS, namespace, fields=f"metadata.name={name}"):
        if isinstance(change, Snapshot):
            found = [item for item in change.items if item["metadata"]["uid"] == uid]
        else:
            found = [change.object] if change.type != "DELETED" and change.object["metadata"]["uid"] == uid else []
        if not found:
            raise CommandError(f"the TrainingJob {name} was deleted", FAILED)
        yield found[0]
        if phase(found[0]) in FINAL:
            return


def show_status(job: Object, display: Display) -> None:
    """Show a job's status: its phase, why it waits, its progress."""
    status = job.get("status") or {}
    if phase(job) not in FINAL:  # its end is told by conclude
        display.stage(phase(job), explanation(job))
    if status.get("progress"):
        display.progress(status["progress"], losses(job))


def conclude(job: Object) -> None:
    """Report a job that has ended, and exit: 0 if it succeeded, else 1."""
    status = job.get("status") or {}
    seconds = format.seconds_between(status.get("startTime"), status.get("completionTime"))
    result = phase(job) + (f" in {format.duration(seconds)}" if seconds is not None else "")
    if status.get("output"):
        print_summary(result, status["output"], status.get("progress") or {}, losses(job), is_vision(job))
    if phase(job) == "Succeeded":
        sys.exit(0)
    for line in filter(log_line, log_tail(job)):
        note(f"  {line}")
    error(f"{job['metadata']['name']} {phase(job).lower()}: {explanation(job)}".removesuffix(": "))
    sys.exit(FAILED)


async def _with_log(cluster: Cluster, job: Object, show: Callable[[str], None]) -> Object:
    followed: set[str] = set()
    told = ""
    async for state in states(cluster, job):
        job = state
        pod = (job.get("status") or {}).get("podName")
        if pod and pod not in followed:
            followed.add(pod)
            async for line in follow_log(cluster, pod, job["metadata"]["namespace"], container=TRAINER_CONTAINER):
                show(line)
            continue
        waiting = f"{phase(job)}: {explanation(job)}".removesuffix(": ")
        if not pod and waiting != told and phase(job) not in FINAL:  # its end is told by conclude
            told = waiting
            note(waiting)
    return job


def print_logs(
    name: str, *, follow: bool, tail: int | None, raw: bool, namespace: str | None, context: str | None
) -> None:
    """Print the log of the job's latest pod, and with ``follow`` of this one and all later ones until the job's end."""

    if follow and tail is not None:
        raise CommandError("--follow and --tail: give one of them")
    show = _print_raw if raw else _print_log_line

    async def work(cluster: Cluster, namespace: str) -> None:
        job = await find_job(cluster, namespace, name)
        if follow and phase(job) not in FINAL:
            await _with_log(cluster, job, show)
            return
        for line in await _log_lines(cluster, job, tail):
            show(line)

    with_cluster(work, context=context, namespace=namespace, goes_on=goes_on(name))


def _print_raw(line: str) -> None:
    print(line, flush=True)


def _print_log_line(line: str) -> None:
    if (shown := log_line(line)) is not None:
        print(shown, flush=True)


async def _log_lines(cluster: Cluster, job: Object, tail: int | None) -> list[str]:
    """The log of the latest pod; of one that is gone, what the status kept."""
    namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
    pods = await cluster.list(PODS, namespace, labels=f"{LABEL_JOB}={label_value(name)}")
    if pods.items:
        latest = max(pods.items, key=lambda pod: pod["metadata"]["creationTimestamp"])["metadata"]["name"]
        try:
            text = await cluster.read_log(latest, namespace, container=TRAINER_CONTAINER, tail_lines=tail)
            return text.splitlines()
        except ClusterError as refused:
            if refused.status not in (400, 404):  # not started yet, or gone since
                raise
    kept: list[str] = ((job.get("status") or {}).get("failure") or {}).get("logTail") or []
    if not kept:
        why = f" ({explanation(job)})" if explanation(job) else ""
        raise CommandError(
            f"{name} is {phase(job)} and has no log{' any more' if phase(job) in FINAL else ' yet'}{why}", FAILED
        )
    note(f"the pod of {name} is gone; these are its last lines, kept in the status")
    return kept if tail is None else kept[len(kept) - min(tail, len(kept)) :]
