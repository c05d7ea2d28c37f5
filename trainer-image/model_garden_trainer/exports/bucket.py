"""A bucket as a place for a finished output (``spec.pushTo``). Credentials come from the environment."""

from __future__ import annotations

from pathlib import Path

from model_garden.contract.reasons import TrainerReason
from model_garden.contract.spec import EffectiveSpec
from model_garden.contract.trainer_config import TrainerConfig
from model_garden.remote.errors import RemoteError
from model_garden.remote.push import check_writable, push_folder
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.events import Report
from model_garden_trainer.exports.outputs import RECORD, goes_along
from model_garden_trainer.fetched import byte_reporter


def address_of(spec: EffectiveSpec) -> str:
    """The address of the uploaded folder."""
    return f"{str(spec.push_to).rstrip('/')}/"


def check(config: TrainerConfig) -> None:
    """Write a small object to the target before training.

    Raises:
        TrainingError: OutputNotWritable, or StorageUnreachable if the server does not answer.
    """
    spec = config.spec
    try:
        check_writable(address_of(spec), RECORD, config.name, _endpoint(spec))
    except RemoteError as error:
        reason: TrainerReason = "StorageUnreachable" if error.kind == "Unreachable" else "OutputNotWritable"
        raise TrainingError(reason, f"spec.pushTo: the write test failed: {error}") from None


def push(spec: EffectiveSpec, output: Path, record: str, report: Report) -> None:
    """Upload an output, without what does not go along; its record comes last, so that only a complete model has one.

    Raises:
        TrainingError: ExportFailed; the output is kept.
    """
    files = [path for path in sorted(output.rglob("*")) if path.is_file() and goes_along(path.relative_to(output))]
    tell = byte_reporter(report, "exporting", f"to {spec.push_to}")
    try:
        push_folder(address_of(spec), output, files, (RECORD, record.encode()), _endpoint(spec), tell)
    except RemoteError as error:
        raise TrainingError(
            "ExportFailed",
            f"spec.pushTo: the upload failed: {error}; the model is kept at {output}. Fix the problem, then run a job "
            "with the same spec and the same outputDir: it pushes without training",
        ) from None


def _endpoint(spec: EffectiveSpec) -> str | None:
    return spec.storage.endpoint_url if spec.storage else None
