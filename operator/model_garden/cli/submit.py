"""``submit`` and ``rerun``: a job checked here first, then created, then followed if asked."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from model_garden.cli.access import by_age, find_job, reference, with_cluster
from model_garden.cli.follow import Follow, conclude, goes_on, until_end
from model_garden.cli.output import FAILED, CommandError, note, print_json, print_yaml
from model_garden.cluster import TRAINING_JOBS, Cluster, ClusterError, Object
from model_garden.contract.defaults import merge
from model_garden.contract.pod import GPU_RESOURCE
from model_garden.contract.spec import outside_workspace
from model_garden.services.manifest import Job, checked, job_from_flags, parse_sets, read_job


def job_to_submit(
    file: str | None,
    given: dict[str, Any],
    sets: list[str] | None,
    *,
    name: str | None,
    vision: bool | None,
    gpus: int | None,
) -> Job:
    """The job that a file, flags and ``--set`` describe together; the later ones win.

    Raises:
        CommandError: one line for each thing that is wrong.
    """
    said: dict[str, Any] = {} if vision is None else {"isVision": vision}
    if gpus is not None:
        said["resources"] = {"limits": {GPU_RESOURCE: gpus}}
    said = merge(merge(said, given), parse_sets(sets))
    if file is None:
        job = job_from_flags(said, name)
    else:
        job = read_job(file, said)
        job.name = name or job.name
    _check_paths(job)
    return job


def _check_paths(job: Job) -> None:
    if problems := outside_workspace(job.spec):
        raise CommandError(problems)


def submit_job(
    job: Job, follow: Follow, *, dry_run: str, output: str | None, namespace: str | None, context: str | None
) -> None:
    """Create the job, print it as asked, and follow it to its end if asked."""
    namespace = namespace or job.metadata.get("namespace")
    if dry_run == "client":
        _print_created(job.resource(namespace), output or "yaml", " created (dry run)")
        return

    async def work(cluster: Cluster, namespace: str) -> Object:
        created = await _create(cluster, job.resource(namespace), dry_run=dry_run == "server")
        _print_created(created, output, " created (server dry run)" if dry_run == "server" else " created")
        if dry_run == "none" and follow is not Follow.NO:
            return await until_end(cluster, created, follow)
        return created

    ended = with_cluster(work, context=context, namespace=namespace, goes_on=goes_on(job.name))
    if dry_run == "none" and follow is not Follow.NO:
        conclude(ended)
    elif dry_run == "none" and output is None:
        note(f"follow it with: model-garden watch {job.name}")


async def _create(cluster: Cluster, resource: Object, *, dry_run: bool) -> Object:
    try:
        return await cluster.create(TRAINING_JOBS, resource, dry_run=dry_run)
    except ClusterError as refused:
        if refused.reason != "AlreadyExists":
            raise
        name, namespace = resource["metadata"]["name"], resource["metadata"]["namespace"]
        raise CommandError(
            f"namespace {namespace} holds a TrainingJob {name} already: give another --name, run it again with "
            f"model-garden rerun {name}, or delete it first",
            FAILED,
        ) from refused


def _print_created(resource: Object, output: str | None, done: str) -> None:
    match output:
        case "yaml":
            print_yaml(resource)
        case "json":
            print_json(resource)
        case "name":
            print(reference(resource))
        case _:
            print(reference(resource) + done, flush=True)


def rerun_job(
    name: str,
    new_name: str | None,
    sets: list[str] | None,
    follow: Follow,
    *,
    dry_run: str,
    output: str | None,
    namespace: str | None,
    context: str | None,
) -> None:
    """Create a new job with the spec of an old one and the changes of ``--set``; it writes to a folder of its own."""
    changes = parse_sets(sets)

    async def work(cluster: Cluster, namespace: str) -> tuple[Object, list[str]]:
        old = await find_job(cluster, namespace, name)
        return old, [job["metadata"]["name"] for job in by_age((await cluster.list(TRAINING_JOBS, namespace)).items)]

    old, taken = with_cluster(work, context=context, namespace=namespace)
    job = again(old, new_name or next_name(old["metadata"]["name"], taken), changes)
    submit_job(job, follow, dry_run=dry_run, output=output, namespace=old["metadata"]["namespace"], context=context)


def again(old: Object, name: str, changes: dict[str, Any]) -> Job:
    """A job called ``name`` with the spec of ``old`` and ``changes``.

    Its output goes beside the old one's unless ``changes`` say where: a second run must not write over a first.

    Raises:
        CommandError: one line for each change that is wrong.
    """
    spec = {key: value for key, value in old["spec"].items() if key != "suspend"}
    if "outputDir" in spec:
        spec["outputDir"] = str(PurePosixPath(spec["outputDir"]).with_name(name))
        spec["outputDir"] = spec["outputDir"] if spec["outputDir"].startswith("/") else f"./{spec['outputDir']}"
    labels = old["metadata"].get("labels")
    job = Job(name, checked(merge(spec, changes)), {"labels": labels} if labels else {})
    _check_paths(job)
    return job


def next_name(name: str, taken: list[str]) -> str:
    """``receipts-2`` after ``receipts``, ``receipts-3`` after ``receipts-2``: the first that is free.

    >>> next_name("receipts", ["receipts", "receipts-2"])
    'receipts-3'
    """
    base, number = re.fullmatch(r"(.*?)(?:-(\d+))?", name).groups()  # type: ignore[union-attr]
    following = int(number or 1) + 1
    while f"{base}-{following}" in taken:
        following += 1
    return f"{base}-{following}"
