"""A run, from top to bottom: seed, dataset, model, LoRA, train, save, export, verify, outcome."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from model_garden.contract.progress import DatasetEvent, Outcome, Stage, StageEvent, WarningEvent
from model_garden.contract.spec import Hyperparameters, TrainingJobSpec
from model_garden.contract.status import OutputStatus, Progress
from model_garden.contract.trainer_config import TrainerConfig
from model_garden_trainer import backends, base_model, checkpoints, outputs, selective_loss
from model_garden_trainer.card import model_card
from model_garden_trainer.data import answers, digest, measure, open_data
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.health import Watchdog
from model_garden_trainer.progress import Metrics, Report, log
from model_garden_trainer.stopping import StopRequests

SUPPORTED_SAVES = ("lora", "merged_16bit")
Verify = Callable[[TrainerConfig, Path, Path, Path | None], dict[str, Any]]


def train(
    config: TrainerConfig,
    report: Report,
    requests: StopRequests,
    watchdog: Watchdog,
    verify: Verify = outputs.verify,
) -> Outcome:
    """Fine-tune as ``config`` says, and leave a checked model in its output folder.

    Args:
        config: a job's name and effective spec; paths are relative to the working directory.
        report: gets every event.
        requests: what signals and people ask for meanwhile.
        watchdog: ends the process when loading or training hangs.
        verify: loads the outputs again and lets them answer a row; in a fresh process.

    Raises:
        TrainingError: the run failed for a reason that its message names, with the fix.
        Stopped: it was asked to stop, and a checkpoint was written where one could be.
    """
    spec, h = config.spec, config.spec.hyperparameters or Hyperparameters()
    output = Path(spec.output_dir or f"./models/{config.name}").expanduser().absolute()  # a claim may be a link
    metrics = Metrics(output)
    name, reason = backends.choose(spec, gpu=torch.cuda.is_available())
    _check_supported(spec)
    outputs.prepare_folder(output, spec.output_dir or "")

    _enter(report, "dataset", spec.dataset_path)
    data = open_data(spec, h.seed or 0)
    fingerprint = _fingerprint(spec)
    finished = outputs.read_record(output)
    if finished is not None:
        return _already_finished(finished, fingerprint, output, metrics, report)

    folder = base_model.locate(spec)
    backend = backends.load(name)
    from transformers import set_seed

    from model_garden_trainer.trainers import trainer_for
    from model_garden_trainer.training import Run, check_packing, fit

    if h.packing:
        check_packing(folder)
    trainer = trainer_for(spec)
    encoder = trainer.encoder(trainer.load_processor(folder), spec)
    measured, longest = measure(data, encoder, folder, h.max_seq_length or 2048)
    report(DatasetEvent(dataset=measured))
    unselective = selective_loss.warning(selective_loss.count_answers(answers(data)), encoder.selective_loss)
    if unselective:
        report(WarningEvent(message=unselective))
        log(unselective)

    _enter(report, "model", f"{spec.base_model}, backend {name} ({reason})")
    with watchdog:
        model = backend.load_model(spec, folder)
        set_seed(h.seed or 0)  # the adapters' first weights depend on nothing that went before
        model = backend.add_lora(model, spec)
        log(_trainable(model))
        _enter(report, "training", None)
        trained = fit(
            Run(spec, output, fingerprint, metrics, report, requests, watchdog),
            model,
            encoder,
            data,
            longest=longest,
            model_has_own_loss=backend.OWN_LOSS,
        )

    _enter(report, "saving", outputs.relative(output))
    outputs.save_adapter(model, folder, output, config)
    del model
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    merged = None
    if spec.save_method == "merged_16bit":
        _enter(report, "exporting", spec.save_method)
        merged = outputs.save_merged(folder, output, config)

    _enter(report, "verifying", None)
    found = verify(config, folder, output, merged)
    log(f"verified: {found['row']} is answered with {found['answer']!r}")
    status = outputs.status(output, merged, trained.steps, trained.progress.loss if trained.progress else None)
    record = {
        "name": config.name,
        "spec": spec.to_dict(),
        "backend": {"name": name, "reason": reason},
        "batch": {"microBatch": trained.micro_batch, "accumulation": trained.accumulation},
        "versions": outputs.versions(),
        "fingerprint": fingerprint,
        "stoppedEarly": trained.stopped_early,
        "dataset": measured.to_dict(),
        "verification": found,
        "output": status.to_dict(),
    }
    with outputs.exporting("the run's record could not be written; the adapter is kept"):
        (output / "README.md").write_text(model_card(config, measured, status, record), encoding="utf-8")
        checkpoints.write_atomically(output / outputs.RECORD, json.dumps(record, indent=2, ensure_ascii=False))
    return _succeeded(record, trained.progress)


def _already_finished(
    record: dict[str, Any], fingerprint: str, output: Path, metrics: Metrics, report: Report
) -> Outcome:
    """The outcome of the very run that finished here before (its pod may have died before it could say so).

    The same settings, data and seed make the same model, so it is not made twice. A run with others is refused: it
    would overwrite a finished model.
    """
    if record.get("fingerprint") != fingerprint:
        raise TrainingError(
            "OutputNotWritable",
            f"spec.outputDir: {outputs.relative(output)} already holds the finished model of job "
            f"{record.get('name')!r}, made with other settings or other data; choose another outputDir, or delete "
            "that folder",
        )
    message = f"{outputs.relative(output)} already holds this very run's finished model; delete it to train again"
    report(WarningEvent(message=message))
    log(message)
    return _succeeded(record, metrics.replay(report))


def _succeeded(record: dict[str, Any], progress: Progress | None) -> Outcome:
    return Outcome(
        result="Succeeded",
        exit_code=0,
        stopped_early=record["stoppedEarly"],
        output=OutputStatus.model_validate(record["output"]),
        progress=progress,
        effective={"backend": record["backend"]["name"], "backendReason": record["backend"]["reason"]},
    )


def _check_supported(spec: TrainingJobSpec) -> None:
    if spec.save_method not in (None, *SUPPORTED_SAVES):
        raise TrainingError(
            "InvalidSpec",
            f"spec.saveMethod: {spec.save_method} cannot be made here; use {' or '.join(SUPPORTED_SAVES)}",
        )


def _fingerprint(spec: TrainingJobSpec) -> str:
    """What makes a run the same run: everything that shapes its weights, and the data files themselves."""
    shaping = {"baseModel", "baseModelRevision", "isVision", "datasetPath", "datasetSplit", "validationDatasetPath"}
    shaping |= {
        "validationFraction",
        "loraConfig",
        "quantization",
        "imageOptions",
        "trainOn",
        "selectiveLoss",
        "backend",
    }
    given = spec.to_dict()
    content = {key: value for key, value in given.items() if key in shaping}
    not_shaping = {"loggingSteps", "saveSteps", "saveTotalLimit", "autoBatchSize"}
    content["hyperparameters"] = {
        key: value for key, value in given.get("hyperparameters", {}).items() if key not in not_shaping
    }
    content["data"] = [digest(path) for path in (spec.dataset_path, spec.validation_dataset_path) if path]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _enter(report: Report, stage: Stage, detail: str | None) -> None:
    report(StageEvent(stage=stage, detail=detail))
    log(f"{stage}: {detail}" if detail else stage)


def _trainable(model: Any) -> str:
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    return f"{trainable:,} of {total:,} parameters are trained"
