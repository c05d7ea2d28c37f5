"""Sees before training that what a job writes has the space."""

from __future__ import annotations

import json
from pathlib import Path

from model_garden.contract.memory_estimate import GIB
from model_garden.contract.spec import EffectiveSpec
from model_garden.estimate.disk import most_checkpoints, output_space
from model_garden.remote.space import free_at
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.events import Report, report_warning


def check_output(spec: EffectiveSpec, base: Path, rows: int, report: Report) -> None:
    """See that ``outputDir`` has the space for checkpoints, model and export.

    Files of an earlier attempt that are there already count as written.

    Args:
        spec: the effective spec.
        base: the folder of the base model.
        rows: rows to train on.
        report: gets a warning where the size of the output is not known.

    Raises:
        TrainingError: InsufficientStorage, with the parts.
    """
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    try:
        parts = output_space(spec, config, checkpoints=most_checkpoints(spec, rows))
    except ValueError as error:
        report_warning(report, f"the disk space that the output needs is not known: {error}")
        return
    output = Path(spec.output_dir).expanduser().absolute()
    there = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    needed, free = sum(part.size for part in parts) - there, free_at(output)
    if free is not None and needed > free:
        raise TrainingError(
            "InsufficientStorage",
            f"spec.outputDir: {spec.output_dir} needs {needed / GIB:.1f} GiB ({', '.join(map(str, parts))}), but only "
            f"{free / GIB:.1f} GiB are free there; delete files there or make the volume larger, or lower "
            "hyperparameters.saveTotalLimit, or choose saveMethod: lora",
        )


def check_cache(model: str, cache: Path, needed: int) -> None:
    """See that the cache has the space for the files of a model that it lacks.

    Args:
        model: its name on the Hub.
        cache: the folder of the cache.
        needed: bytes of the files that it lacks.

    Raises:
        TrainingError: InsufficientStorage.
    """
    free = free_at(cache)
    if free is not None and needed > free:
        raise TrainingError(
            "InsufficientStorage",
            f"spec.baseModel: {needed / GIB:.1f} GiB of {model} are to be downloaded, but the cache ({cache}) has only "
            f"{free / GIB:.1f} GiB free; delete models from the cache claim, or make it larger",
        )
