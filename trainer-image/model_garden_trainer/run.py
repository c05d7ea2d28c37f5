"""A run, from top to bottom: seed, dataset, model, LoRA, train, save, export, verify, outcome."""

from __future__ import annotations

import gc
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model_garden.contract.progress import DatasetEvent, Outcome, ResumedEvent, Stage, StageEvent, WarningEvent
from model_garden.contract.spec import Health, Hyperparameters, TrainingJobSpec
from model_garden.contract.status import OutputStatus, Progress
from model_garden.contract.trainer_config import TrainerConfig
from model_garden_trainer import backends, base_model, checkpoints, outputs
from model_garden_trainer.card import model_card
from model_garden_trainer.data import Data, digest, measure, open_data
from model_garden_trainer.errors import Stopped, TrainingError
from model_garden_trainer.health import Watchdog
from model_garden_trainer.progress import Metrics, Report, log
from model_garden_trainer.stopping import StopRequests

SUPPORTED_SAVES = ("lora", "merged_16bit")


@dataclass
class Trained:
    """What training left: the last figures, and whether it ended before its last step because somebody asked."""

    steps: int
    progress: Progress | None
    stopped_early: bool


def train(config: TrainerConfig, report: Report, requests: StopRequests, watchdog: Watchdog) -> Outcome:
    """Fine-tune as ``config`` says, and leave a checked model in its output folder.

    Args:
        config: a job's name and effective spec; paths are relative to the working directory.
        report: gets every event.
        requests: what signals and people ask for meanwhile.
        watchdog: gets a sign of life at every step.

    Raises:
        TrainingError: the run failed for a reason that its message names, with the fix.
        Stopped: it was asked to stop, and a checkpoint was written where one could be.
    """
    spec, h = config.spec, config.spec.hyperparameters or Hyperparameters()
    output = Path(spec.output_dir or f"./models/{config.name}").expanduser().resolve()
    metrics = Metrics(output)
    gpu = torch.cuda.is_available()
    name, reason = backends.choose(spec, gpu=gpu)
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

    set_seed(h.seed or 0)
    trainer = trainer_for(spec)
    encoder = trainer.encoder(trainer.load_processor(folder), spec)
    measured = measure(data, encoder, h.max_seq_length or 2048)
    report(DatasetEvent(dataset=measured))

    _enter(report, "model", f"{spec.base_model}, backend {name} ({reason})")
    model = backend.load_model(spec, folder)
    set_seed(h.seed or 0)  # the adapters' first weights depend on nothing that went before
    model = backend.add_lora(model, spec)
    log(_trainable(model))

    _enter(report, "training", None)
    trained = _train(config, model, encoder, data, backend, output, fingerprint, metrics, report, requests, watchdog)

    _enter(report, "saving", outputs.relative(output))
    outputs.save_adapter(model, folder, output, config)
    del model
    gc.collect()
    if gpu:
        torch.cuda.empty_cache()
    merged = None
    if spec.save_method == "merged_16bit":
        _enter(report, "exporting", spec.save_method)
        merged = outputs.save_merged(folder, output, config)

    _enter(report, "verifying", None)
    found = outputs.verify(config, folder, output, merged)
    log(f"verified: {found['row']} is answered with {found['answer']!r}")
    status = outputs.status(output, merged, trained.steps, trained.progress.loss if trained.progress else None)
    record = {
        "name": config.name,
        "spec": spec.to_dict(),
        "backend": {"name": name, "reason": reason},
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


def _train(
    config: TrainerConfig,
    model: Any,
    encoder: Any,
    data: Data,
    backend: Any,
    output: Path,
    fingerprint: str,
    metrics: Metrics,
    report: Report,
    requests: StopRequests,
    watchdog: Watchdog,
) -> Trained:
    """Train from the newest complete checkpoint, or from the start, to the last step or to where it is asked to end."""
    from model_garden_trainer import callbacks
    from model_garden_trainer.loop import Loop, arguments

    spec, h = config.spec, config.spec.hyperparameters or Hyperparameters()
    root = output / outputs.CHECKPOINTS
    checkpoint = _resumable(root, fingerprint, report)
    metrics.rewind(checkpoint.step if checkpoint else -1)
    evaluated = len(data.validation) > 0
    loop = Loop(
        model=model,
        model_has_own_loss=backend.OWN_LOSS,
        health=spec.health or Health(),
        report=report,
        args=arguments(
            h,
            checkpoints=str(root),
            evaluated=evaluated,
            micro_batch=h.batch_size or 1,
            accumulation=h.gradient_accumulation_steps or 1,
            workers=0,
        ),
        data_collator=encoder.__call__,  # of an object with a tokenizer the Trainer would save that every time
        train_dataset=data.training,
        eval_dataset=data.validation if evaluated else None,
    )
    telling = callbacks.Telling(loop, report, metrics, h.logging_steps or 1)
    obeying = callbacks.Obeying(requests)
    sealing = callbacks.Sealing(loop, root, h.save_total_limit or 2, fingerprint, requests, report)
    judging = [callbacks.Judging(h.early_stopping_patience)] if evaluated else []
    for callback in (obeying, telling, *judging, sealing, callbacks.Living(watchdog)):
        loop.add_callback(callback)
    state = _state(checkpoint)
    if checkpoint and (state["global_step"] >= state["max_steps"] or checkpoint.notes["ended"] or requests.save):
        log(f"{checkpoint.folder}: training ended there; only saving is left")
        last = _last_progress(metrics)
        _load_adapter(model, Path(state["best_model_checkpoint"] or checkpoint.folder))
        early = state["global_step"] < state["max_steps"] and not _patience_ended(state, h)
        return Trained(checkpoint.step, last, early)
    if checkpoint:
        loop.window.loss, loop.window.steps = checkpoint.notes["loss"], checkpoint.notes["steps"]
    requests.interruptible = False
    with watchdog:
        loop.train(resume_from_checkpoint=str(checkpoint.folder) if checkpoint else None)
    requests.interruptible = True
    if requests.stop:
        raise Stopped(sealing.step)
    if loop.state.best_model_checkpoint:
        _load_adapter(model, Path(loop.state.best_model_checkpoint))
        log(f"the best model, of step {loop.state.best_global_step}, is kept (evalLoss {loop.state.best_metric:.4f})")
    return Trained(loop.state.global_step, telling.last, obeying.save_early)


def _resumable(root: Path, fingerprint: str, report: Report) -> checkpoints.Checkpoint | None:
    checkpoint = checkpoints.newest(root)
    if checkpoint is None:
        return None
    if checkpoint.fingerprint != fingerprint:
        raise TrainingError(
            "OutputNotWritable",
            f"spec.outputDir: {checkpoint.folder} is of a run with other settings or other data, and would neither be "
            "continued nor overwritten; choose another outputDir, or delete that folder",
        )
    report(ResumedEvent(step=checkpoint.step))
    log(f"{checkpoint.folder}: training goes on from step {checkpoint.step}")
    return checkpoint


def _state(checkpoint: checkpoints.Checkpoint | None) -> dict[str, Any]:
    if checkpoint is None:
        return {}
    content: dict[str, Any] = json.loads((checkpoint.folder / "trainer_state.json").read_text())
    return content


def _patience_ended(state: dict[str, Any], h: Hyperparameters) -> bool:
    losses = [entry["eval_loss"] for entry in state["log_history"] if "eval_loss" in entry]
    if not losses or h.early_stopping_patience is None:
        return False
    return len(losses) - 1 - losses.index(min(losses)) >= h.early_stopping_patience


def _last_progress(metrics: Metrics) -> Progress | None:
    return metrics.replay(lambda _: None)


def _load_adapter(model: Any, folder: Path) -> None:
    """Put a checkpoint's adapter weights into the model."""
    from peft import load_peft_weights, set_peft_model_state_dict

    set_peft_model_state_dict(model, load_peft_weights(str(folder), device="cpu"))


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
    h = spec.hyperparameters
    if h and h.packing:
        raise TrainingError("InvalidSpec", "spec.hyperparameters.packing: is not available yet; leave it out")


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
