"""``download``: a model of a cluster to a folder of this machine."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from pathlib import Path, PurePosixPath

from model_garden.cli.access import with_cluster
from model_garden.cli.output import FAILED, CommandError, note
from model_garden.cli.storage import Where
from model_garden.cli.transfer_bar import TransferBar
from model_garden.cluster import Cluster, ClusterError, Object
from model_garden.services import format
from model_garden.services.errors import NotFound
from model_garden.services.job_view import explained_phase
from model_garden.services.queries import LATEST, find_job
from model_garden.storage.unpack import unpack


def download(name: str, folder: str | None, where: Where) -> None:
    """Download the model of a job, or any model of the claim, and print the folder."""

    async def work(cluster: Cluster, namespace: str) -> Path:
        place, path = await _model_of(cluster, namespace, name, where)
        storage = place.storage(cluster, namespace)
        model = PurePosixPath(path).name
        target = Path(folder or f"./models/{model}")
        size = next((one.size for one in await storage.models() if one.name == model), 0)
        with TransferBar("Downloading", size) as bar:
            async with aclosing(storage.archive(path)) as blocks:
                count = await unpack(blocks, target, bar.advance)
        note(f"{format.count(count, 'file')} downloaded ({format.size(size)}); every SHA-256 is as it was sent")
        return target

    print(with_cluster(work, context=where.context, namespace=where.namespace))


async def _model_of(cluster: Cluster, namespace: str, name: str, where: Where) -> tuple[Where, str]:
    """The claims and the path of a model: from the job of that name, or without one the folder of that name."""
    try:
        job = await find_job(cluster, namespace, name)
    except (NotFound, ClusterError) as failed:
        if name == LATEST or (isinstance(failed, ClusterError) and failed.status not in (403, 404)):
            raise
        return where, f"./models/{name.rpartition('/')[2]}"
    path = _output_of(job)
    claims = ((job["status"].get("effectiveSpec") or job["spec"]).get("storage")) or {}
    return (
        replace(
            where,
            data_claim=where.data_claim or claims.get("dataClaim"),
            models_claim=where.models_claim or claims.get("modelsClaim"),
        ),
        path,
    )


def _output_of(job: Object) -> str:
    output = (job.get("status") or {}).get("output") or {}
    if path := output.get("path"):
        return str(path)
    raise CommandError(f"{job['metadata']['name']} has no model yet: {explained_phase(job)}", FAILED)
