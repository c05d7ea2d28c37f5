"""``serving``: the text that uses a trained model."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from model_garden.cli.access import with_cluster
from model_garden.cli.chat import RECORD, find_model
from model_garden.cli.output import FAILED, CommandError, note, print_json
from model_garden.cluster import Cluster, Object
from model_garden.services import queries
from model_garden.services.job_view import explained_phase
from model_garden.serving import Use, uses


def print_serving(name: str, *, output: str, namespace: str | None, context: str | None) -> None:
    """Print the text for each program, of a model of this machine, else of a job of the cluster."""
    found = _here(name) or _of_job(name, namespace, context)
    if output == "json":
        print_json([asdict(one) for one in found])
        return
    for place, one in enumerate(found):
        print(("\n" if place else "") + f"# {one.title}")
        if one.text:
            print(one.text.rstrip())
        if one.note:
            note(one.note)


def _here(name: str) -> list[Use]:
    """The uses of a model folder with a record; none without."""
    folder = find_model(name)
    if folder is None or not (folder / RECORD).is_file():
        return []
    record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return uses(record["name"], record["spec"], record["output"])


def _of_job(name: str, namespace: str | None, context: str | None) -> list[Use]:
    async def work(cluster: Cluster, namespace: str) -> Object:
        return await queries.find_job(cluster, namespace, name)

    job = with_cluster(work, context=context, namespace=namespace)
    status = job.get("status") or {}
    if not status.get("output"):
        raise CommandError(f"{name} has no model yet: {explained_phase(job)}", FAILED)
    return uses(job["metadata"]["name"], job["spec"] | (status.get("effectiveSpec") or {}), status["output"])
