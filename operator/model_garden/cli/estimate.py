"""``estimate``: the memory and the disk space that a job needs, before it is submitted."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from model_garden.cli.access import with_cluster
from model_garden.cli.output import FAILED, CommandError, print_json, print_rows, warn
from model_garden.cluster import Cluster, ClusterError
from model_garden.cluster.errors import NOT_CONFIGURED
from model_garden.contract.memory_estimate import Estimate
from model_garden.contract.model import field_path
from model_garden.contract.resource import InvalidResource
from model_garden.contract.spec import is_path
from model_garden.estimate.estimate import explain, gpu_sizes
from model_garden.estimate.gpus import Node
from model_garden.services.errors import Unavailable
from model_garden.services.format import size
from model_garden.services.manifest import Job
from model_garden.services.planning import Question, all_nodes, estimate_job
from model_garden.services.savings import fields_of

Answer = dict[str, Any]


def estimate(job: Job, config_file: str | None, *, output: str, context: str | None) -> None:
    """Print the estimate, and exit with 0, or with 1 if the job fits no GPU.

    Args:
        job: the job.
        config_file: the base model's config.json; None for that of its folder, or the Hub's.
        output: ``table`` or ``json``.
        context: the context of the cluster whose GPUs are compared; without a cluster, none are.

    Raises:
        CommandError: the config.json cannot be read, or says nothing that an estimate could be made of.
    """
    question = Question(job, _config(job, config_file), None)
    try:
        answer = asyncio.run(estimate_job(question, _nodes(context)))
    except InvalidResource as wrong:  # named as in the body of a request
        raise CommandError([problem.removeprefix("spec.base_model_config: ") for problem in wrong.problems]) from wrong
    except Unavailable as unknown:
        raise CommandError(f"{unknown}; name a copy of it with --model-config", FAILED) from unknown
    if output == "json":
        print_json(answer)
    else:
        print_rows(_rows(job, answer))
    sys.exit(0 if _has_gpu(answer) else FAILED)


def _config(job: Job, file: str | None) -> dict[str, Any] | None:
    """The config.json of a file, else of the base model's folder; None if that is not on this machine."""
    model = job.spec.base_model
    if file is None and not (is_path(model) and Path(model).is_dir()):
        return None
    path = Path(file or Path(model) / "config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as failed:
        raise CommandError(f"{path}: {failed.strerror}") from failed
    except ValueError as broken:
        raise CommandError(f"{path} is not JSON ({broken})") from broken
    if not isinstance(config, dict):
        raise CommandError(f"{path} is not a JSON object")
    return config


def _nodes(context: str | None) -> list[Node] | None:
    """The cluster's nodes; None without a cluster, or if it does not answer."""

    async def read(cluster: Cluster, _: str) -> list[Node] | None:
        return await all_nodes(cluster)

    try:
        return with_cluster(read, context=context, namespace=None)
    except ClusterError as failed:
        if context is not None:
            raise
        if failed.reason != NOT_CONFIGURED or os.environ.get("KUBECONFIG"):
            warn(f"the job is not compared with the cluster's GPUs: {failed}")
        return None


def _has_gpu(answer: Answer) -> bool:
    """Whether a node fits; without nodes, whether a common GPU does."""
    found, nodes = answer["estimate"], answer.get("nodes")
    if found["memory"] == "Host":
        return True
    return any(node["fits"] for node in nodes) if nodes else "smallest_gpu" in found


def _rows(job: Job, answer: Answer) -> list[tuple[str, str]]:
    found = Estimate.model_validate(answer["estimate"])
    total, *lines = explain(found)
    assumed = [line.removeprefix("assumed: ") for line in lines if line.startswith("assumed: ")]
    parts = [line for line in lines if not line.startswith("assumed: ")]
    kind, _, amount = total.partition(" memory ")
    rows = [("job", f"{job.name} ({job.spec.base_model})"), (f"{kind} memory", amount)]
    rows += [("", line) for line in parts]
    if kind == "GPU":
        rows += _gpu_rows(found, answer.get("nodes"))
    rows += [("to save memory" if n == 0 else "", line) for n, line in enumerate(_savings(answer["savings"]))]
    space = answer["output"]
    rows.append(("output folder", f"at most {size(sum(part['size_bytes'] for part in space))}"))
    rows += [("", f"{part['name']} {size(part['size_bytes'])}") for part in space]
    if download := answer.get("download_bytes"):
        rows.append(("download", f"{size(download)}, unless the model is in the cache already"))
    return rows + [("assumed" if n == 0 else "", line) for n, line in enumerate(assumed)]


def _gpu_rows(found: Estimate, nodes: list[dict[str, Any]] | None) -> list[tuple[str, str]]:
    sizes = zip(("fits", "may fit", "too small"), gpu_sizes(found), strict=True)
    rows = [(label, f"GPUs of {', '.join(map(str, each))} GB") for label, each in sizes if each]
    if nodes == []:
        rows.append(("cluster", "has no node with GPUs, so that the job would wait"))
    for node in nodes or ():
        memory = f"GPU of {node['gpu_memory_gib']:.0f} GiB" if "gpu_memory_gib" in node else "GPU"
        rows.append((f"node {node['name']}", f"{node['gpus']} x {memory}: {'fits' if node['fits'] else 'too small'}"))
    return rows


def _savings(found: list[dict[str, Any]]) -> list[str]:
    """``quantization: 4bit (9.1 GiB)``; of several, the last is all of them at once."""
    lines = []
    for one in found:
        changes = ", ".join(f"{field_path(path.split('.'))}: {value}" for path, value in fields_of(one["spec"]))
        all_of_them = len(found) > 1 and one is found[-1]
        lines.append(f"{'all of these' if all_of_them else changes} ({one['total_gib']:.1f} GiB)")
    return lines
