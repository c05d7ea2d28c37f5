"""The preflight Job: everything that needs no GPU, before a GPU is requested. It imports no torch.

    MODEL_GARDEN_CONFIG='{"name": …, "spec": {…}}' python -m model_garden_trainer preflight

What is cheap and often wrong comes first: the model's kind by its small files, every row and its length, the memory
estimate, and only then the download of the weights. The operator compares the estimate with the cluster's GPUs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from model_garden.contract.addresses import is_remote
from model_garden.contract.memory_estimate import GIB, Estimate, RowShape
from model_garden.contract.progress import DatasetEvent, Outcome
from model_garden.contract.spec import EffectiveSpec, is_path
from model_garden.contract.trainer_config import TrainerConfig
from model_garden.datasets import CheckReport, TokenCounter, UncountableError, warnings_of
from model_garden.estimate.estimate import estimate
from model_garden_trainer import exports, fetched, rewards, space
from model_garden_trainer.batches.splits import check, described, fetch_images, open_data, repeated
from model_garden_trainer.evaluation import harness, questions
from model_garden_trainer.events import Report, report_stage, report_warning
from model_garden_trainer.models import base_adapter, base_model
from model_garden_trainer.trackers import tracking


def preflight(config: TrainerConfig, report: Report) -> Outcome:
    """Check data and model, estimate the memory, and download the model into the cache.

    Args:
        config: a job's name and effective spec; paths are relative to the working directory.
        report: gets every event.

    Raises:
        TrainingError: the job cannot be trained; its message names what is wrong, and the fix.
    """
    spec, h = config.spec, config.spec.hyperparameters

    def warn(message: str) -> None:
        report_warning(report, message)

    tracking.check(spec, os.environ)
    report_stage(report, "model", f"looking at {spec.base_model}")
    base_model.fetch(config, report, weights=False)
    folder = base_model.look(spec, warn)
    base_adapter.fetch(config, report)
    adapter = base_adapter.locate(spec, warn)
    for warning in base_adapter.check(spec, adapter, folder) if adapter else ():
        warn(warning)
    fetched.fetch_datasets(config, report)
    fetch_images(config, report, warn)
    report_stage(report, "dataset", f"checking {spec.dataset_path}")
    data = open_data(spec, h.seed, warn)
    reports = check(data, _counter(spec, folder, report), h.max_seq_length)
    report(DatasetEvent(dataset=described(data, reports, "Preflight")))
    for warning in warnings_of(reports):
        warn(warning)
    if spec.rewards:
        rewards.check(spec, data.training)
    asked = None
    if spec.evaluation:
        asked = questions.check(spec, data)
        harness.check(spec, report)
    for warning in repeated(data, reports, asked):
        warn(warning)
    exports.check(config, folder, report, gpu=spec.gpus > 0)
    adopted = base_adapter.adopted(spec, adapter)
    needed = _estimate(adopted, folder, reports, report)
    if spec.storage and spec.storage.models_claim:  # without one, the output is on the disk of the node that trains
        space.check_output(adopted, folder, len(data.training), report)
    _bring(config, report, warn)
    return Outcome(result="Succeeded", exit_code=0, estimate=needed, fetched=_digests(spec))


def _counter(spec: EffectiveSpec, folder: Path, report: Report) -> TokenCounter | None:
    min_pixels, max_pixels = spec.pixel_bounds
    try:
        return TokenCounter.load(
            folder,
            vision=spec.vision,
            min_pixels=min_pixels,
            max_pixels=max_pixels,
            train_on=spec.train_on,
            template=spec.chat_template,
        )
    except UncountableError as error:
        report_warning(
            report, f"the preflight cannot measure the length of rows, so the trainer does when it starts: {error}"
        )
        return None


def _estimate(spec: EffectiveSpec, folder: Path, reports: Sequence[CheckReport], report: Report) -> Estimate | None:
    """The memory of the job, with a row as long as the longest and with as many image tokens as any has."""
    lengths = [each.tokens for each in reports if each.tokens]
    rows = None
    if lengths:
        rows = RowShape(tokens=max(each.maximum for each in lengths), image_tokens=max(e.most_image for e in lengths))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    try:
        return estimate(spec, config, rows=rows)
    except ValueError as error:
        report_warning(report, f"the memory that training needs is not known: {error}")
        return None


def _digests(spec: EffectiveSpec) -> dict[str, str] | None:
    """What training has to read; of a model whose weights were not fetched, the digest is not known."""
    found = fetched.digests(spec)
    if not _has_cache(spec):
        found.pop("baseModel", None)
    return found or None


def _has_cache(spec: EffectiveSpec) -> bool:
    return bool(spec.storage and spec.storage.cache_claim)


def _bring(config: TrainerConfig, report: Report, warn: base_model.Warn) -> None:
    """The weights into the cache claim, or where the model is a folder, a look at them."""
    spec = config.spec
    if is_path(spec.base_model):
        base_model.check_weights(spec, base_model.look(spec, warn))
        return
    if not _has_cache(spec):
        report_warning(
            report,
            f"the job has no cache claim, so the training pod downloads {spec.base_model} before it can train; set "
            "spec.storage.cacheClaim to download it in the preflight",
        )
        return
    if is_remote(spec.base_model):
        base_model.fetch(config, report)
        base_model.check_weights(spec, base_model.locate(spec))
        return
    report_stage(report, "model", f"fetching {spec.base_model}")

    def tell(there: int, total: int) -> None:
        report_stage(report, "model", f"fetching {spec.base_model}: {there / GIB:.1f} of {total / GIB:.1f} GiB")

    base_model.check_weights(spec, base_model.locate(spec, tell, warn))
