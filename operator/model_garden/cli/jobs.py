"""``list``, ``get``, ``delete``, ``stop``, ``cancel``, ``suspend`` and ``resume``."""

from __future__ import annotations

import asyncio
from typing import Any

from model_garden.cli.access import with_cluster
from model_garden.cli.output import FAILED, CommandError, note, print_json, print_rows, print_table, print_yaml
from model_garden.cluster import Cluster, ClusterError, Object
from model_garden.contract.names import API_VERSION, KIND
from model_garden.services import actions, format, queries
from model_garden.services.actions import Change
from model_garden.services.errors import NotFound
from model_garden.services.job_view import (
    explained_phase,
    explanation,
    is_vision,
    log_tail,
    losses,
    phase,
    queue_words,
)

PHASE_COLORS = {
    "Succeeded": "green",
    "Running": "cyan",
    "Failed": "red",
    "Cancelled": "bright_black",
    "Suspended": "bright_black",
}
CURVE_WIDTH = 32
COMPLETION_SECONDS = 2.0
"""Longest wait for the cluster after Tab was pressed."""

ASKED: dict[Change, str] = {
    "stop": "stopping: training ends early and the model is saved",
    "cancel": "canceling",
    "suspend": "suspending: a checkpoint is saved",
    "resume": "resuming",
}
"""What is printed after a change was requested."""


def list_jobs(*, output: str | None, all_namespaces: bool, namespace: str | None, context: str | None) -> None:
    """Print the jobs of a namespace, or of all namespaces, oldest first."""

    async def work(cluster: Cluster, namespace: str) -> tuple[list[Object], str]:
        return await queries.list_jobs(cluster, None if all_namespaces else namespace), namespace

    jobs, where = with_cluster(work, context=context, namespace=namespace)
    match output:
        case "json" | "yaml":
            listed = {
                "apiVersion": API_VERSION,
                "kind": f"{KIND}List",
                "items": [queries.complete(job) for job in jobs],
            }
            (print_json if output == "json" else print_yaml)(listed)
        case "name":
            for job in jobs:
                print(queries.reference(job["metadata"]["name"]))
        case _ if not jobs:
            note("no TrainingJobs" + ("" if all_namespaces else f" in namespace {where}"))
        case _:
            _print_jobs(jobs, wide=output == "wide", namespaces=all_namespaces)


def _print_jobs(jobs: list[Object], *, wide: bool, namespaces: bool) -> None:
    rows = [row(job, wide=wide, namespaces=namespaces) for job in jobs]
    print_table(rows, {"PHASE": PHASE_COLORS})


def row(job: Object, *, wide: bool, namespaces: bool) -> dict[str, str]:
    """The cells of one job by column name."""
    metadata, spec, status = job["metadata"], job["spec"], job.get("status") or {}
    progress = status.get("progress") or {}
    left = format.seconds_left(progress) if phase(job) == "Running" and progress else None
    cells = {"NAMESPACE": metadata["namespace"]} if namespaces else {}
    cells |= {
        "NAME": metadata["name"],
        "PHASE": phase(job),
        "STEP": format.steps(progress),
        "LOSS": format.loss(progress.get("loss")),
        "LEFT": format.duration(left) if left is not None else "",
        "AGE": format.age(metadata["creationTimestamp"]),
    }
    if wide:
        from model_garden.contract.pod import gpus_of  # imports pydantic, which nothing else here needs

        cells |= {
            "MODEL": spec["baseModel"],
            "GPUS": str(gpus_of((status.get("effectiveSpec") or spec).get("resources"))),
            "POD": status.get("podName") or "",
            "OUTPUT": (status.get("output") or {}).get("path") or "",
            "WHY": "" if phase(job) in ("Running", "Succeeded") else explanation(job).replace("\n", " "),
        }
    return cells


def get_job(name: str, *, output: str | None, namespace: str | None, context: str | None) -> None:
    """Print one job."""

    async def work(cluster: Cluster, namespace: str) -> Object:
        return await queries.find_job(cluster, namespace, name)

    job = queries.complete(with_cluster(work, context=context, namespace=namespace))
    match output:
        case "json":
            print_json(job)
        case "yaml":
            print_yaml(job)
        case "name":
            print(queries.reference(job["metadata"]["name"]))
        case _:
            print_rows(description(job))


def description(job: Object) -> list[tuple[str, str]]:
    """The rows that describe a job: label and value."""
    metadata, status = job["metadata"], job.get("status") or {}
    spec = status.get("effectiveSpec") or job["spec"]
    output, progress = status.get("output") or {}, status.get("progress") or {}
    how = ["vision" if is_vision(job) else "text", spec.get("quantization"), spec.get("backend")]
    rows = [
        (
            "name",
            f"{metadata['name']}  (namespace {metadata['namespace']}, {format.age(metadata['creationTimestamp'])} old)",
        ),
        ("phase", explained_phase(job)),
        ("queue", queue_words(job)),
        ("model", f"{spec['baseModel']}  ({', '.join(str(word) for word in how if word)})"),
        ("data", spec["datasetPath"]),
        ("", format.dataset_line(status["dataset"]) if status.get("dataset") else ""),
        ("memory", format.memory_line(status["estimate"]) if status.get("estimate") else ""),
        ("progress", format.step_line(progress, running=phase(job) == "Running") if progress else ""),
        ("loss", _loss_words(losses(job))),
        ("GPU time", format.usage_line(status["usage"]) if status.get("usage") else ""),
        ("pod", status.get("podName") or ""),
    ]
    said = (status.get("failure") or {}).get("message")
    rows += [
        ("attempts" if first else "", _attempt(attempt, said)) for first, attempt in _numbered(status.get("attempts"))
    ]
    if scored := status.get("evaluation"):
        rows += format.evaluation_rows(scored)
    if output:
        rows += format.output_rows(output, vision=is_vision(job))
        rows.append(("serving", f"model-garden serving {metadata['name']}"))
        rows.append(("download", f"model-garden download {metadata['name']}"))
    return rows + [("log" if first else "", line) for first, line in _numbered(log_tail(job))]


def _numbered(items: Any) -> list[tuple[bool, Any]]:
    """Each item with whether it is the first: only that one gets a label."""
    return [(index == 0, item) for index, item in enumerate(items or ())]


def _loss_words(values: list[float]) -> str:
    if len(values) < 2:
        return format.loss(values[0]) if values else ""
    return f"{format.loss(values[0])} → {format.loss(values[-1])}  {format.sparkline(values, CURVE_WIDTH)}"


def _attempt(attempt: dict[str, Any], said: str | None) -> str:
    """One attempt in a line, without its message where that is ``said``, which is printed elsewhere."""
    parts = [attempt["pod"] + (f" on {attempt['node']}" if attempt.get("node") else "")]
    if attempt.get("toStep") is not None:
        parts.append(f"steps {attempt.get('fromStep') or 0} to {attempt['toStep']}")
    if attempt.get("reason"):
        parts.append(
            attempt["reason"] + (f": {attempt['message']}" if attempt.get("message") not in (None, said) else "")
        )
    seconds = format.seconds_between(attempt.get("startTime"), attempt.get("endTime"))
    return "  ".join(parts + ([f"after {format.duration(seconds)}"] if seconds is not None else []))


def change_job(change: Change, name: str, *, namespace: str | None, context: str | None) -> None:
    """Request a change, which the operator makes."""

    async def work(cluster: Cluster, namespace: str) -> Object:
        return await actions.change_job(cluster, namespace, name, change)

    job = with_cluster(work, context=context, namespace=namespace)
    print(f"{queries.reference(job['metadata']['name'])} {ASKED[change]}")


def delete_jobs(names: list[str], *, namespace: str | None, context: str | None) -> None:
    """Delete jobs. Those that do not exist are reported after the others are deleted."""

    async def work(cluster: Cluster, namespace: str) -> list[str]:
        problems: list[str] = []
        for name in names:
            try:
                deleted = await actions.delete_job(cluster, namespace, name)
                print(f"{queries.reference(deleted['metadata']['name'])} deleted", flush=True)
            except NotFound as missing:
                problems += missing.problems
        return problems

    if problems := with_cluster(work, context=context, namespace=namespace):
        raise CommandError(problems, FAILED)


def names_for_completion() -> list[str]:
    """Names of the jobs in the current namespace; empty if no cluster answers."""

    async def work(cluster: Cluster, namespace: str) -> list[Object]:
        async with asyncio.timeout(COMPLETION_SECONDS):
            return await queries.list_jobs(cluster, namespace)

    try:
        jobs = with_cluster(work, context=None, namespace=None)
    except (ClusterError, CommandError, TimeoutError):
        return []
    return [queries.LATEST, *(job["metadata"]["name"] for job in jobs)]
