"""A run, from top to bottom: seed, dataset, model, LoRA, train, save, export, verify, outcome."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import psutil
import torch

from model_garden.contract.memory_estimate import GIB
from model_garden.contract.progress import DatasetEvent, EvaluationEvent, Outcome
from model_garden.contract.spec import EffectiveSpec
from model_garden.contract.spec_warnings import spec_warnings
from model_garden.contract.status import DatasetStatus, EvaluationStatus, OutputStatus, Progress, TrackerStatus
from model_garden.contract.trainer_config import TrainerConfig, for_record
from model_garden_trainer import exports, fetched, methods, rewards, space
from model_garden_trainer.atomic_file import write_atomically
from model_garden_trainer.batches import selective_loss
from model_garden_trainer.batches.splits import Data, answers, measure, open_data, other_start, unlisted_end
from model_garden_trainer.distributed import process_group
from model_garden_trainer.engine import checkpoints
from model_garden_trainer.engine.stopping import StopRequests
from model_garden_trainer.engine.watchdog import Watchdog
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.evaluation import harness, questions
from model_garden_trainer.events import Metrics, Report, log, report_stage, report_warning
from model_garden_trainer.exports import adapter, bucket, full, hub, outputs, scores
from model_garden_trainer.exports.model_card import model_card
from model_garden_trainer.fingerprint import fingerprint
from model_garden_trainer.models import backends, base_adapter, base_model, peft_adapter
from model_garden_trainer.trackers import tracking

if TYPE_CHECKING:
    from model_garden.datasets import CheckReport, Example
    from model_garden_trainer.batches.collator import Collator
    from model_garden_trainer.engine.context import HeldOut, Run, Trained

_AFTER_TRAINING = ("saveMethod", "ggufQuantization", "pushToHub", "pushTo", "evaluation")
"""Fields of the spec that say what is done with a trained model."""

Verify = Callable[[TrainerConfig, Path, Path, outputs.Exports, Report], dict[str, Any]]


def train(
    config: TrainerConfig,
    report: Report,
    requests: StopRequests,
    watchdog: Watchdog,
    verify: Verify = outputs.verify,
) -> Outcome:
    """Fine-tune as ``config`` says, and write a checked model into its output folder.

    Args:
        config: a job's name and effective spec; paths are relative to the working directory.
        report: gets every event.
        requests: stop requests of signals and people.
        watchdog: ends the process when loading or training is stuck.
        verify: loads the outputs in a fresh process and lets them answer a row.

    Raises:
        TrainingError: the run failed for a reason that its message names, with the fix.
        Stopped: it was asked to stop, and a checkpoint was written where one could be.
    """

    startup = time.time() - psutil.Process().create_time()
    spec, warn = config.spec, partial(report_warning, report)
    output = Path(spec.output_dir).expanduser().absolute()  # a claim may be a link
    metrics = Metrics(output, silent=process_group.rank() > 0)
    name, reason = backends.choose(spec, gpu=torch.cuda.is_available())
    if spec.gpus and not torch.cuda.is_available():
        report_warning(report, f"{spec.gpus} GPU(s) requested, but torch finds none: training runs on the CPU, slowly")
    for message in spec_warnings(spec):
        report_warning(report, message)
    outputs.prepare_folder(output, spec.output_dir, spec.base_model)

    report_stage(report, "dataset", spec.dataset_path)
    data = open_data(spec, spec.hyperparameters.seed, warn)
    if spec.rewards:
        rewards.check(spec, data.training)
    asked = None
    if spec.evaluation and process_group.rank() == 0:
        asked = questions.check(spec, data)
        harness.check(spec, report, begun=checkpoints.exist(output / outputs.CHECKPOINTS))
    adapter_folder = base_adapter.locate(spec, warn)
    identity = fingerprint(spec, data, adapter_folder)
    finished = outputs.read_record(output)
    if finished is not None and not _lacks_exports(finished, spec, identity):
        return _already_finished(finished, config, identity, output, metrics, report)

    team = process_group.join(spec.health)
    fetched.refuse_other_than(team.share(lambda: fetched.digests(spec)), spec)
    if team.share(lambda: identity) != identity:
        raise TrainingError(
            "InvalidDataset",
            f"spec.datasetPath: this pod reads other data at {spec.dataset_path} than the first pod; it changed while "
            "the pods fetched it, so start the job again",
        )
    folder = team.main_process_first(lambda: base_model.locate(spec, warn=warn))
    for warning in base_adapter.check(spec, adapter_folder, folder) if adapter_folder else ():
        warn(warning)
    exports.check(config, folder, report, gpu=torch.cuda.is_available())
    space.check_output(base_adapter.adopted(spec, adapter_folder), folder, len(data.training), report)
    tracking.check(spec, os.environ)
    backend = backends.load(name)
    from model_garden_trainer.engine.context import Run

    encoder, measured, longest = _encoded(spec, folder, data, asked, team, report)
    report_stage(report, "model", f"{spec.base_model}, backend {name} ({reason})")
    with tracking.tracking(config, output, report, leader=team.leader) as tracked:
        run = Run(spec, backend, output, identity, metrics, tracked, requests, watchdog, team)
        trained = _trained_and_saved(run, config, folder, encoder, data, longest, startup)
        if not team.leader:
            team.wait_for_release()
            return Outcome(result="Succeeded", exit_code=0)
        _free_memory(backend)  # the model is no longer used: make room for the process that verifies
        record = _record(config, trained, team) | {
            "backend": {"name": name, "reason": reason},
            "fingerprint": identity,
            "dataset": measured.to_dict(),
        }
        with _keeping_the_adapter(output, trained, _model_class(spec, folder)):
            outcome = _delivered(config, folder, output, record, trained, verify, metrics, tracked)
    team.release_workers()
    return outcome


def _free_memory(backend: ModuleType) -> None:
    backend.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        log(f"{torch.cuda.memory_allocated() / GIB:.2f} GiB of the GPU are still in use after training")


@contextmanager
def _keeping_the_adapter(output: Path, trained: Trained, model_class: str) -> Iterator[None]:
    """Within it, a failure names the folder of the adapter, which is already saved."""
    try:
        yield
    except TrainingError as error:
        error.output = outputs.status(output, outputs.Exports(), model_class, trained.figures())
        raise


def _trained_and_saved(
    run: Run, config: TrainerConfig, folder: Path, encoder: Collator, data: Data, longest: Example, startup: float
) -> Trained:
    """Load, adapt and train the model, and let the leading process save its adapter.

    ``startup`` are the seconds that this process took to start.
    """
    from model_garden_trainer.engine.forecast import seconds_after_training

    whole, began = run.spec.adapter == "none", time.perf_counter()
    with run.watchdog:
        model = _adapted(run, folder)
        after = seconds_after_training(run.spec.save_method, startup, time.perf_counter() - began)
        run = dataclasses.replace(run, seconds_after_training=after, held_out=_held_out(run.spec, folder, data))
        start = None if whole else peft_adapter.initial(model, run.spec.lora_config)
        report_stage(run.report, "training")
        trained = methods.train(run, model, encoder, data, longest)
    if run.team.leader:
        report_stage(run.report, "saving", outputs.relative(run.output))
        if whole:
            full.save(model, config, folder, run.output)
        else:
            adapter.save(model, start, config, folder, run.output)
    return trained


def _encoded(
    spec: EffectiveSpec,
    folder: Path,
    data: Data,
    asked: CheckReport | None,
    team: process_group.ProcessGroup,
    report: Report,
) -> tuple[Collator, DatasetStatus, Example]:
    """The collator, the measured data set and its longest row; warnings are reported.

    Raises:
        TrainingError: InvalidDataset for rows, InvalidSpec where packing was not shown for the model.
    """
    from model_garden_trainer.methods.sft import check_packing
    from model_garden_trainer.models import auto_classes

    h = spec.hyperparameters
    if h.packing:
        check_packing(folder)
    encoder = auto_classes.collator(spec, folder)
    measured, longest, warnings = team.share(lambda: measure(data, encoder, folder, h.max_seq_length, asked))
    report(DatasetEvent(dataset=measured))
    unselective = selective_loss.warning(selective_loss.count_answers(answers(data)), encoder.selective_loss)
    unlisted = unlisted_end(data, encoder.renderer, spec.base_model)
    # GRPO trains on what the model answers to the prompt, not on the rows' answers.
    unlike = None if spec.method == "grpo" else other_start(data, encoder.renderer, spec.base_model)
    for warning in (*warnings, unselective, unlisted, unlike):
        if warning:
            report_warning(report, warning)
    return encoder, measured, longest


def _held_out(spec: EffectiveSpec, folder: Path, data: Data) -> HeldOut | None:
    """The rows that the model answers during training too, if it does."""
    from model_garden_trainer.engine.context import HeldOut
    from model_garden_trainer.models import auto_classes

    if spec.evaluation is None or spec.evaluation.every_evaluations is None:
        return None
    answers_alone = spec.model_copy(update={"train_on": "responses"})  # the expected answer is what is labeled
    return HeldOut(questions.questions(spec, data), auto_classes.collator(answers_alone, folder))


def _adapted(run: Run, folder: Path) -> Any:
    """The base model with fresh adapters, whose first weights depend on the seed and on nothing that went before."""
    from transformers import set_seed

    from model_garden_trainer.models.lora import fused_experts
    from model_garden_trainer.models.vision_attention import use_varlen

    backend, spec = run.backend, run.spec
    model = backend.load_model(spec, folder)
    set_seed(run.h.seed)
    model = backend.train_whole(model, spec) if spec.adapter == "none" else backend.add_lora(model, spec)
    use_varlen(model)
    log(_trainable(model))
    if spec.adapter != "none" and fused_experts(model):
        report_warning(
            run.report,
            "the model is a mixture of experts: its experts and its MLPs get no adapters and stay as they are; its "
            "attention is trained",
        )
    return model


def _model_class(spec: EffectiveSpec, folder: Path) -> str:
    from model_garden_trainer.models.auto_classes import model_class

    name: str = model_class(spec, folder).__name__
    return name


def _record(config: TrainerConfig, trained: Trained, team: process_group.ProcessGroup) -> dict[str, Any]:
    """The part of the run's record about the job and its training."""
    return {
        "name": config.name,
        "spec": for_record(config.spec),
        "batch": {
            "microBatch": trained.micro_batch,
            "accumulation": trained.accumulation,
            "processes": team.size,
        },
        "versions": outputs.versions(),
        "stoppedEarly": trained.stopped_early,
        "metrics": trained.progress.metrics if trained.progress else None,
    }


def _delivered(
    config: TrainerConfig,
    base: Path,
    output: Path,
    record: dict[str, Any],
    trained: Trained,
    verify: Verify,
    metrics: Metrics,
    report: tracking.Tracking,
) -> Outcome:
    """Make of the saved adapter what the job asks for, see that each output answers, and write down what was made.

    The record comes last: a folder with a record is a finished run.

    Raises:
        TrainingError: ExportFailed.
    """
    spec, progress = config.spec, trained.progress
    if spec.save_method != "lora":
        report_stage(report, "exporting", spec.save_method)
    made = exports.make(config, base, output)
    report_stage(report, "verifying", None)
    found = verify(config, base, output, made, report)
    log(f"verified: {found['row']} is answered with {found['answer']!r}")
    made = exports.clean_up(made)
    status = outputs.status(output, made, _model_class(spec, base), trained.figures())
    status.verified = True
    at = progress or Progress(step=trained.steps, total_steps=0)
    record["evaluation"] = scores.report_evaluation(found, output, at, metrics, report)
    if spec.evaluation:
        record["evaluationDuringTraining"] = scores.during_training(spec.evaluation, metrics) or None
    status.trackers = report.places() or None
    scores.report_samples(found, status, output, at, metrics, report)
    record |= {"verification": found, "output": status.to_dict()}
    with outputs.exporting("the run's record could not be written; the adapter is kept"):
        card = model_card(
            config.model_copy(update={"spec": base_adapter.adopted(spec, base_adapter.locate(spec))}),
            DatasetStatus.model_validate(record["dataset"]),
            status,
            record,
        )
        (output / "README.md").write_text(card, encoding="utf-8")
    if spec.push_to_hub:
        report_stage(report, "exporting", f"to {spec.push_to_hub.repo} on the Hub")
        status.hub_url = hub.push(spec.push_to_hub, config.name, output, json.dumps(record, indent=2))
        record["output"] = status.to_dict()
    if spec.push_to:
        report_stage(report, "exporting", f"to {spec.push_to}")
        status.remote_url = bucket.address_of(spec)
        record["output"] = status.to_dict()
        bucket.push(spec, output, json.dumps(record, indent=2), report)
    with outputs.exporting("the run's record could not be written; the adapter is kept"):
        write_atomically(output / outputs.RECORD, json.dumps(record, indent=2, ensure_ascii=False))
    return _succeeded(record, progress)


def _lacks_exports(finished: dict[str, Any], spec: EffectiveSpec, identity: str) -> bool:
    """Whether the run that finished is this one but for what is made of its adapter, which alone is left to do then."""
    before, now = finished.get("spec") or {}, spec.to_dict()
    same = all(before.get(key) == now.get(key) for key in _AFTER_TRAINING)
    return finished.get("fingerprint") == identity and not same


def _already_finished(
    record: dict[str, Any],
    config: TrainerConfig,
    identity: str,
    output: Path,
    metrics: Metrics,
    report: Report,
) -> Outcome:
    """The outcome of the same run, which finished here before: its pod may have died before it reported.

    The same settings, data and seed make the same model, so it is not made twice. A run with others is refused: it
    would overwrite a finished model.
    """
    if record.get("fingerprint") != identity:
        raise TrainingError(
            "OutputNotWritable",
            f"spec.outputDir: {outputs.relative(output)} already holds the finished model of job "
            f"{record.get('name')!r}, made with other settings or other data; choose another outputDir, or delete "
            "that folder",
        )
    report_warning(
        report, f"{outputs.relative(output)} already holds the finished model of this run; delete it to train again"
    )
    if scored := record.get("evaluation"):
        report(EvaluationEvent(evaluation=EvaluationStatus.model_validate(scored)))
    with tracking.tracking(config, output, report, leader=process_group.rank() == 0) as tracked:
        places = tracked.places()  # they get what they lack
    return _succeeded(record, metrics.replay(report), places)


def _succeeded(
    record: dict[str, Any], progress: Progress | None, trackers: list[TrackerStatus] | None = None
) -> Outcome:
    output = OutputStatus.model_validate(record["output"])
    output.trackers = trackers or output.trackers
    return Outcome(
        result="Succeeded",
        exit_code=0,
        stopped_early=record["stoppedEarly"],
        output=output,
        progress=progress,
        effective_spec={"backend": record["backend"]["name"], "backendReason": record["backend"]["reason"]},
    )


def _trainable(model: Any) -> str:
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    return f"{trainable:,} of {total:,} parameters are trained"
