"""What a job reads from remote storage: fetched once in a pod, before any process that trains is started.

``fetch_datasets`` and ``fetch_model`` fetch; ``local`` and ``mirror`` then tell where the copies are. They are kept in
an environment variable, so that the processes of all GPUs and the one that verifies read the same bytes.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from model_garden.contract.addresses import is_remote
from model_garden.contract.names import FETCHED_ENV
from model_garden.contract.reasons import TrainerReason
from model_garden.contract.spec import EffectiveSpec
from model_garden.contract.status import Stage
from model_garden.contract.trainer_config import TrainerConfig
from model_garden.datasets.fetched_pictures import Pictures
from model_garden.datasets.mirror import Mirror
from model_garden.remote import job_digests
from model_garden.remote.errors import Kind, RemoteError
from model_garden.remote.fetch import fetch_dataset, mirror_of
from model_garden.remote.fetch import fetch_model as fetch_model_files
from model_garden.remote.row_images import FIELD as IMAGES
from model_garden.remote.row_images import fetch_images as fetch_row_images
from model_garden.remote.row_images import kept_images
from model_garden.remote.snapshot import Fetched, Progress
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.events import Report, report_stage

REPORT_SECONDS = 2.0
_MIB, _GIB = 2**20, 2**30
_DATASET: dict[Kind, TrainerReason] = {
    "NotFound": "InvalidDataset",
    "Changed": "InvalidDataset",
    "Damaged": "InvalidDataset",
    "Denied": "StorageAccessDenied",
    "Unreachable": "StorageUnreachable",
    "Unwritable": "OutputNotWritable",
    "TooLarge": "InvalidDataset",
    "Full": "InsufficientStorage",
}
_MODEL = _DATASET | {"NotFound": "ModelNotFound", "Changed": "InvalidModel", "Damaged": "InvalidModel"}


def with_notes(config: TrainerConfig) -> TrainerConfig:
    """``config`` with the digests that an earlier start of the job noted, if no preflight gave them."""
    if config.fetched or config.uid is None:
        return config
    return config.model_copy(update={"fetched": job_digests.noted(config.uid) or None})


def note(config: TrainerConfig) -> None:
    """Note what was fetched for the job, if it has no preflight that did."""
    found = digests(config.spec)
    if config.uid is not None and found and not config.fetched:
        job_digests.note(config.uid, found)


def fetch_datasets(config: TrainerConfig, report: Report) -> None:
    """Fetch the data sets of a job that are in remote storage.

    Raises:
        TrainingError: InvalidDataset, StorageAccessDenied, StorageUnreachable, OutputNotWritable or
            InsufficientStorage.
    """
    spec = config.spec
    addresses = dict.fromkeys(path for path, _ in spec.all_datasets if is_remote(path))
    for address in addresses:
        field = next(name for name, path in _addresses(spec).items() if path == address)

        def fetch(address: str = address, field: str = field) -> Fetched:
            return fetch_dataset(
                address,
                vision=spec.vision,
                splits=[split for path, split in spec.all_datasets if path == address],
                columns=spec.columns,
                fetch_pictures=spec.fetch_pictures,
                endpoint=_endpoint(spec),
                expected=(config.fetched or {}).get(field),
                tell=byte_reporter(report, "dataset", f"fetching {address}"),
            )

        report_stage(report, "dataset", f"fetching {address}")
        _remember(_fetched(fetch, field, _DATASET))


def fetch_model(
    config: TrainerConfig,
    patterns: Sequence[str],
    report: Report,
    weights: Callable[[Path], list[str]] | None = None,
    field: str = "baseModel",
) -> None:
    """Fetch the files of a remote base model, or of a remote adapter, whose names match.

    Args:
        config: the job's.
        patterns: as those of ``remote.fetch.fetch_model``.
        report: gets the progress.
        weights: gives the names of the weights, from the folder with the other files; None fetches no weights.
        field: the field of the spec that holds the address, ``baseModel`` or ``adapterPath``.

    Raises:
        TrainingError: ModelNotFound, InvalidModel, StorageAccessDenied, StorageUnreachable, OutputNotWritable or
            InsufficientStorage.
    """
    spec = config.spec
    address = (spec.adapter_path if field == "adapterPath" else None) or spec.base_model
    report_stage(report, "model", f"fetching {address}")
    fetched = _fetched(
        lambda: fetch_model_files(
            address,
            patterns,
            endpoint=_endpoint(spec),
            more=weights or (lambda _: ()),
            expected=(config.fetched or {}).get(field) if weights or field == "adapterPath" else None,
            tell=byte_reporter(report, "model", f"fetching {address}"),
        ),
        field,
        _MODEL,
    )
    _remember(fetched)


def fetch_images(config: TrainerConfig, addresses: Callable[[], Collection[str]], report: Report) -> None:
    """Fetch the images that rows name by their addresses.

    Args:
        config: the job's.
        addresses: gives them; called only if the cache lacks the images that the job was told of.
        report: gets the progress.

    Raises:
        TrainingError: InvalidDataset or OutputNotWritable.
    """
    expected = (config.fetched or {}).get(IMAGES)
    last = time.monotonic()

    def tell(there: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= REPORT_SECONDS or there == total:
            last = time.monotonic()
            report_stage(report, "dataset", f"fetching images: {there:,} of {total:,}")

    def fetch() -> Fetched:
        return kept_images(expected) or fetch_row_images(addresses(), expected=expected, tell=tell)

    report_stage(report, "dataset", "fetching images of rows")
    _remember(_fetched(fetch, IMAGES, _DATASET))


def pictures(spec: EffectiveSpec) -> Pictures | None:
    """The images that rows name by their addresses; None if they are not to be fetched."""
    found = _all().get(IMAGES)
    return Pictures(Path(found[0]) if found else None) if spec.fetch_pictures else None


def local(path: str) -> str:
    """Where a path of the spec is on disk: the copy of an address that was fetched, else the path itself."""
    found = _all().get(path)
    return found[0] if found else path


def mirror(path: str) -> Mirror | None:
    """The folder of remote storage of a data set that was fetched; None for any other."""
    found = _all().get(path)
    return mirror_of(path, Path(found[0])) if found else None


def digests(spec: EffectiveSpec) -> dict[str, str]:
    """The digest of what was fetched, by field of the spec."""
    found = _all()
    return {field: found[path][1] for field, path in _addresses(spec).items() if path in found}


def refuse_other_than(first: Mapping[str, str], spec: EffectiveSpec) -> None:
    """See that this pod fetched what the first pod did, whose ``digests`` are ``first``: each fetches for itself.

    Raises:
        TrainingError: InvalidDataset or InvalidModel, naming the field.
    """
    for field, digest in digests(spec).items():
        if first.get(field, digest) != digest:
            raise TrainingError(
                "InvalidModel" if field in ("baseModel", "adapterPath") else "InvalidDataset",
                f"spec.{field}: this pod fetched other content than the first pod; it changed while the pods fetched "
                "it, so start the job again",
            )


def _addresses(spec: EffectiveSpec) -> dict[str, str | None]:
    """What may be in remote storage, by field of the spec."""
    return {
        "datasetPath": spec.dataset_path,
        "validationDatasetPath": spec.validation_dataset_path,
        "evaluation.datasetPath": spec.evaluation.dataset_path if spec.evaluation else None,
        "baseModel": spec.base_model,
        "adapterPath": spec.adapter_path,
        IMAGES: IMAGES if spec.fetch_pictures else None,
    }


def _all() -> dict[str, tuple[str, str]]:
    return {
        address: (path, digest) for address, (path, digest) in json.loads(os.environ.get(FETCHED_ENV) or "{}").items()
    }


def _remember(fetched: Fetched) -> None:
    found = _all() | {fetched.address: (str(fetched.path.absolute()), fetched.digest)}
    os.environ[FETCHED_ENV] = json.dumps(found)


def _endpoint(spec: EffectiveSpec) -> str | None:
    return spec.storage.endpoint_url if spec.storage else None


def _fetched(fetch: Callable[[], Fetched], field: str, reasons: dict[Kind, TrainerReason]) -> Fetched:
    try:
        return fetch()
    except RemoteError as error:
        raise TrainingError(reasons[error.kind], f"spec.{field}: {error}") from None


def byte_reporter(report: Report, stage: Stage, what: str) -> Progress:
    """A function that reports bytes as a stage: every two seconds, and when all are there."""
    last = time.monotonic()

    def tell(there: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= REPORT_SECONDS or there == total:
            last = time.monotonic()
            unit, name = (_GIB, "GiB") if total >= _GIB else (_MIB, "MiB")
            report_stage(report, stage, f"{what}: {there / unit:.1f} of {total / unit:.1f} {name}")

    return tell
