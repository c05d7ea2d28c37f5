"""``submit`` and ``rerun``: check a job on this machine, create it, and follow it if requested."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_camel

from model_garden.cli.access import with_cluster
from model_garden.cli.follow import Follow, follow_job
from model_garden.cli.output import FAILED, CommandError, note, print_json, print_yaml, warn
from model_garden.cli.spec_flags import named_by_flag, parse_sets
from model_garden.cluster import Cluster, Object
from model_garden.contract.addresses import HUB_DATASET, is_remote
from model_garden.contract.defaults import effective_spec, merge
from model_garden.contract.options import Storage
from model_garden.contract.pod import GPU_RESOURCE
from model_garden.contract.spec_warnings import spec_warnings
from model_garden.services.data_check import Use, check_of
from model_garden.services.errors import Conflict
from model_garden.services.manifest import Job
from model_garden.services.queries import reference
from model_garden.services.submission import check_paths, create_job, job_to_rerun, job_to_submit


@dataclass(frozen=True)
class Creation:
    """The flags that ``submit`` and ``rerun`` share."""

    follow: Follow
    dry_run: str
    output: str | None
    namespace: str | None
    context: str | None


def submit(
    file: str | None,
    flags: dict[str, Any],
    sets: list[str] | None,
    how: Creation,
    *,
    name: str | None,
    vision: bool | None,
    gpus: int | None,
    upload: bool,
    storage_image: str | None,
) -> None:
    """Create a job from a file, flags and ``--set``. Flags override the file, and ``--set`` overrides both.

    ``upload`` uploads its data sets first, from this machine, through a pod of the image ``storage_image``.
    """
    if storage_image and not upload:
        raise CommandError("--storage-image: only --upload starts a storage pod; add --upload")
    if upload and how.dry_run != "none":
        raise CommandError("--upload: a dry run changes nothing; remove --upload or --dry-run")
    job = job_of_flags(file, flags, sets, name=name, vision=vision, gpus=gpus)
    with named_by_flag():
        if upload:
            _upload(job, how, storage_image)
        check_paths(job)
    _create(job, how)


def job_of_flags(
    file: str | None,
    flags: dict[str, Any],
    sets: list[str] | None,
    *,
    vision: bool | None,
    gpus: int | None,
    name: str | None = None,
) -> Job:
    """The job of a file, flags and ``--set``.

    Raises:
        InvalidResource: it breaks a rule of the spec; one line for each problem.
    """
    spec: dict[str, Any] = {} if vision is None else {"isVision": vision}
    if gpus is not None:
        spec["resources"] = {"limits": {GPU_RESOURCE: gpus}}
    with named_by_flag():
        return job_to_submit(merge(merge(spec, flags), parse_sets(sets)), file=file, name=name)


def _upload(job: Job, how: Creation, image: str | None) -> None:
    """Upload each data set of the job that is on this machine, and set its path in the job."""
    from model_garden.cli.storage import Where
    from model_garden.cli.upload import upload_dataset

    claims = job.spec.storage or Storage()
    namespace = how.namespace or job.metadata.get("namespace")
    where = Where(namespace, how.context, claims.data_claim, claims.models_claim, image)
    spec = effective_spec(job.spec, job.name)
    changes: dict[str, str] = {}
    paths = {
        "dataset_path": spec.dataset_path,
        "validation_dataset_path": spec.validation_dataset_path,
        "evaluation.dataset_path": spec.evaluation.dataset_path if spec.evaluation else None,
    }
    for field, path in paths.items():
        if path is None or path.startswith(HUB_DATASET) or is_remote(path):
            continue
        if not Path(path).exists():
            raise CommandError(f"spec.{to_camel(field)}: {path}: no such file or folder, so it cannot be uploaded")
        same = next((done for name, done in changes.items() if paths[name] == path), None)
        use: Use = "evaluation" if field == "evaluation.dataset_path" else "training"
        changes[field] = same or upload_dataset(check_of(spec, path, use=use), None, where)
    scored = changes.pop("evaluation.dataset_path", None)
    job.spec = job.spec.model_copy(update=changes)
    if job.spec.evaluation and scored:
        job.spec.evaluation = job.spec.evaluation.model_copy(update={"dataset_path": scored})


def rerun(name: str, new_name: str | None, sets: list[str] | None, how: Creation) -> None:
    """Create a job with the spec of an old one, the changes of ``--set``, and its own output folder."""
    changes = parse_sets(sets)

    async def work(cluster: Cluster, namespace: str) -> Job:
        return await job_to_rerun(cluster, namespace, name, changes, new_name=new_name)

    _create(with_cluster(work, context=how.context, namespace=how.namespace), how)


def _create(job: Job, how: Creation) -> None:
    """Create the job, print it, and follow it until it ends if requested."""
    namespace = how.namespace or job.metadata.get("namespace")
    for message in spec_warnings(job.spec):
        warn(message)
    if how.dry_run == "client":
        _print_created(job.resource(namespace), how.output or "yaml")
        return

    async def create(cluster: Cluster, namespace: str) -> Object:
        created = await create_job(cluster, job, namespace, dry_run=how.dry_run == "server")
        _print_created(created, how.output, " (server dry run)" if how.dry_run == "server" else "")
        return created

    try:
        created = with_cluster(create, context=how.context, namespace=namespace)
    except Conflict as taken:
        hint = f"choose another --name, or use model-garden rerun {job.name}, or delete it first"
        raise CommandError(f"{taken}: {hint}", FAILED) from taken
    if how.dry_run != "none":
        return
    if how.follow is not Follow.NO:
        follow_job(job.name, how.follow, namespace=created["metadata"]["namespace"], context=how.context)
    elif how.output is None:
        note(f"Show its progress with: model-garden watch {job.name}")


def _print_created(resource: Object, output: str | None, remark: str = "") -> None:
    name = reference(resource["metadata"]["name"])
    match output:
        case "yaml":
            print_yaml(resource)
        case "json":
            print_json(resource)
        case "name":
            print(name, flush=True)
        case _:
            print(f"{name} created{remark}", flush=True)
