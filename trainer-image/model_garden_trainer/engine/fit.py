"""Training itself: from the newest complete checkpoint, or from the start, to the last step or to where it is asked to
end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache
from peft import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict
from transformers import PrinterCallback

from model_garden.contract.hyperparameters import EffectiveHyperparameters
from model_garden.contract.progress import ResumedEvent, WarningEvent
from model_garden.contract.spec import EffectiveSpec
from model_garden.contract.status import Progress
from model_garden.datasets import Example
from model_garden_trainer.batches import packing
from model_garden_trainer.batches.collator import Collator
from model_garden_trainer.batches.splits import Data, Subset
from model_garden_trainer.distributed.process_group import ProcessGroup
from model_garden_trainer.engine import callbacks, checkpoints
from model_garden_trainer.engine.batch_size import Split, halved, largest_that_fits, out_of_memory, split_of
from model_garden_trainer.engine.instrumented import Loop, arguments
from model_garden_trainer.engine.stopping import StopRequests
from model_garden_trainer.engine.watchdog import Watchdog
from model_garden_trainer.errors import Stopped, TrainingError
from model_garden_trainer.events import Metrics, Report, log
from model_garden_trainer.exports import outputs


@dataclass(frozen=True)
class Run:
    """What stays the same through a run, whatever model it trains."""

    spec: EffectiveSpec
    output: Path
    fingerprint: str
    metrics: Metrics
    report: Report
    requests: StopRequests
    watchdog: Watchdog
    team: ProcessGroup = field(default_factory=ProcessGroup)

    @property
    def h(self) -> EffectiveHyperparameters:
        """The effective hyperparameters."""
        return self.spec.hyperparameters

    @property
    def root(self) -> Path:
        """Where checkpoints lie."""
        return self.output / outputs.CHECKPOINTS


@dataclass(frozen=True)
class Trained:
    """What training left: the last figures, how batches were taken, and whether somebody asked it to end early."""

    steps: int
    progress: Progress | None
    stopped_early: bool
    micro_batch: int
    accumulation: int


def fit(run: Run, model: Any, encoder: Collator, data: Data, *, longest: Example, model_has_own_loss: bool) -> Trained:
    """Train the adapters of ``model``, which holds the best weights afterwards where there were evaluations.

    Args:
        run: what to train and where to.
        model: the base model with fresh adapters.
        encoder: makes batches of examples.
        data: rows to train on and to evaluate on.
        longest: an example of the greatest length, by which the batch size is found.
        model_has_own_loss: see ``Loop``.

    Raises:
        TrainingError: the loss is no number, memory ran out, or the checkpoints there are another run's.
        Stopped: it was asked to stop; the checkpoint of that very step is written.
    """
    checkpoint = run.team.share(lambda: _resumable(run))
    run.metrics.rewind(checkpoint.step if checkpoint else -1)
    if checkpoint and _ended(checkpoint, run):
        return _left_off(checkpoint, run, model)
    fresh = {key: value.cpu().clone() for key, value in get_peft_model_state_dict(model).items()}

    def loop(split: Split) -> Loop:
        return _loop(run, model, encoder, data, split, model_has_own_loss)

    split = _split(run, encoder, longest, checkpoint, loop)
    while True:
        try:
            return _fit_once(run, model, loop(split), split, checkpoint)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            split = _smaller(run, split, error)
        finally:
            run.requests.interruptible = True
        model.zero_grad()
        clear_device_cache(garbage_collection=True)  # the loop that failed, its optimizer with it
        checkpoint = checkpoints.newest(run.root)
        run.metrics.rewind(checkpoint.step if checkpoint else -1)
        set_peft_model_state_dict(model, fresh)


def _fit_once(run: Run, model: Any, loop: Loop, split: Split, checkpoint: checkpoints.Checkpoint | None) -> Trained:
    if run.team.size > 1:
        torch.manual_seed(run.h.seed + run.team.rank)  # dropout differs; rows are drawn by a seed of their own
    obeying = callbacks.GracefulStopCallback(run.requests, run.team)
    telling = callbacks.ProgressCallback(loop, obeying, run)
    judging = callbacks.EvaluationCallback(run.h.early_stopping_patience)

    def ended() -> str | None:
        return "patience" if judging.stopped else "asked" if obeying.save_early else None

    sealing = callbacks.CheckpointCallback(loop, run, split.micro_batch, ended)
    loop.remove_callback(PrinterCallback)
    for callback in (obeying, telling, judging, sealing, callbacks.HeartbeatCallback(run.watchdog)):
        loop.add_callback(callback)
    if checkpoint:
        loop.window.loss, loop.window.steps = checkpoint.notes["loss"], checkpoint.notes["steps"]
    run.requests.interruptible = False
    with loop.autocast_adapters():
        loop.train(resume_from_checkpoint=str(checkpoint.folder) if checkpoint else None)
    run.requests.interruptible = True
    if run.team.any(run.requests.stop or obeying.stopped)[0]:
        raise Stopped(sealing.step, by_peer=not run.requests.stop)
    if loop.state.best_model_checkpoint:
        _load_adapter(model, Path(loop.state.best_model_checkpoint))
        log(f"the best model, of step {loop.state.best_global_step}, is kept (evalLoss {loop.state.best_metric:.4f})")
    return Trained(loop.state.global_step, telling.last, obeying.save_early, split.micro_batch, split.accumulation)


class Batches:
    """The collator: numbers of rows -> the batch that ``encode`` makes of them, or ``error``, which the loop raises.

    A row is read and encoded here, in one of the data loader's workers, whose exceptions torch would make anew in the
    main process from nothing but their class and text. It has no tokenizer that the Trainer sees, and would save with
    every checkpoint.
    """

    def __init__(self, rows: Subset, encode: Callable[[list[Example]], Any]) -> None:
        self._rows, self._encode = rows, encode

    def __call__(self, numbers: list[int]) -> Any:
        """A batch."""
        try:
            return self._encode([self._rows[number] for number in numbers])
        except TrainingError as error:
            return {"error": (error.reason, str(error))}


def _loop(run: Run, model: Any, encoder: Collator, data: Data, split: Split, model_has_own_loss: bool) -> Loop:
    evaluated = len(data.validation) > 0
    collate: Any = encoder
    loader_batch, accumulation = split.micro_batch, split.accumulation
    if run.h.packing:
        loader_batch, accumulation = split.micro_batch * split.accumulation, 1
        collate = _packed(run, model, encoder, split.micro_batch)
    return Loop(
        model=model,
        model_has_own_loss=model_has_own_loss,
        health=run.spec.health,
        report=run.report,
        team=run.team,
        args=arguments(
            run.h,
            checkpoints=str(run.root),
            evaluated=evaluated,
            micro_batch=loader_batch,
            eval_batch=split.micro_batch,
            accumulation=accumulation,
            workers=_workers(run.team),
            some_may_be_unused=not model_has_own_loss,
        ),
        data_collator=Batches(data.training, collate),
        eval_collator=Batches(data.validation, encoder.for_evaluation()),
        train_dataset=range(len(data.training)),
        eval_dataset=range(len(data.validation)) if evaluated else None,
    )


def check_packing(folder: Path) -> None:
    """Refuse ``packing`` for a model for which it was not shown to change nothing, before its weights are loaded.

    Raises:
        TrainingError: InvalidSpec.
    """
    kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    _refuse(packing.refusal(kind, None))


def _refuse(refusal: str | None) -> None:
    if refusal:
        raise TrainingError("InvalidSpec", refusal)


def _packed(run: Run, model: Any, encoder: Collator, rows: int) -> packing.PackedSteps:
    config = model.get_base_model().config
    # only the loaded model tells: a backend chooses by what is installed
    _refuse(packing.refusal(config.model_type, config.get_text_config()._attn_implementation))
    return packing.PackedSteps(
        encoder,
        capacity=run.h.max_seq_length,
        rows=rows,
        pad_token_id=encoder.tokenizer.pad_token_id,
        config=config,
    )


def _split(
    run: Run,
    encoder: Collator,
    longest: Example,
    checkpoint: checkpoints.Checkpoint | None,
    loop: Callable[[Split], Loop],
) -> Split:
    """How the effective batch is taken: as asked for; with ``autoBatchSize`` in the largest micro-batches that fit, or
    those that the run resumed from was taken in. Packed rows are full: batchSize of them is where it begins."""
    asked = Split(run.h.batch_size, run.h.gradient_accumulation_steps)
    effective = asked.micro_batch * asked.accumulation
    if not run.h.auto_batch_size:
        return asked
    if checkpoint:
        return split_of(effective, checkpoint.notes["microBatch"])
    if run.h.packing:
        return asked
    trying = loop(Split(effective, 1))

    def attempt(size: int) -> None:
        trying.probe_batch(encoder([longest] * size))

    return largest_that_fits(attempt, effective, run.report, everywhere=run.team.all)


def _smaller(run: Run, split: Split, error: RuntimeError) -> Split:
    """The next smaller micro-batch after memory ran out in mid-training.

    Raises:
        TrainingError: OutOfMemory where the batch may not or cannot be smaller.
    """
    effective = split.micro_batch * split.accumulation
    may_halve = run.h.auto_batch_size and run.team.size == 1  # the others are in mid-step
    size = halved(effective, split.micro_batch) if may_halve else None
    if size is None:
        smaller = "" if split.micro_batch == 1 else "set hyperparameters.autoBatchSize: true or a smaller batchSize, "
        if run.team.size > 1:
            smaller = "" if split.micro_batch == 1 else "set hyperparameters.autoBatchSize: false and batchSize: 1, "
        raise TrainingError(
            "OutOfMemory",
            f"memory ran out at {split.micro_batch} row(s) at once ({str(error).splitlines()[0]}); {smaller}lower "
            "hyperparameters.maxSeqLength or imageOptions.maxPixels, use quantization: 4bit, or a larger GPU",
        ) from error
    message = f"memory ran out at {split.micro_batch} row(s) at once; training goes on with {size}"
    run.report(WarningEvent(message=message))
    log(message)
    return split_of(effective, size)


def _resumable(run: Run) -> checkpoints.Checkpoint | None:
    checkpoint = checkpoints.newest(run.root)
    if checkpoint is None:
        return None
    if checkpoint.fingerprint != run.fingerprint:
        raise TrainingError(
            "OutputNotWritable",
            f"spec.outputDir: {checkpoint.folder} is of a run with other settings or other data, and would neither be "
            "continued nor overwritten; choose another outputDir, or delete that folder",
        )
    run.report(ResumedEvent(step=checkpoint.step))
    log(f"{checkpoint.folder}: training goes on from step {checkpoint.step}")
    return checkpoint


def _ended(checkpoint: checkpoints.Checkpoint, run: Run) -> bool:
    """Whether training had ended at ``checkpoint``, so that one more step would be one too many."""
    state = _state(checkpoint)
    save = run.team.any(run.requests.save)[0]
    return state["global_step"] >= state["max_steps"] or checkpoint.notes["ended"] is not None or save


def _left_off(checkpoint: checkpoints.Checkpoint, run: Run, model: Any) -> Trained:
    """What an earlier attempt trained but did not live to save."""
    log(f"{checkpoint.folder}: training ended there; only saving is left")
    state = _state(checkpoint)
    _load_adapter(model, Path(state["best_model_checkpoint"] or checkpoint.folder))
    finished = state["global_step"] >= state["max_steps"] or checkpoint.notes["ended"] == "patience"
    micro_batch = checkpoint.notes["microBatch"]
    effective = run.h.batch_size * run.h.gradient_accumulation_steps
    return Trained(
        checkpoint.step, run.metrics.replay(lambda _: None), not finished, micro_batch, effective // micro_batch
    )


def _state(checkpoint: checkpoints.Checkpoint) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((checkpoint.folder / "trainer_state.json").read_text())
    return content


def _load_adapter(model: Any, folder: Path) -> None:
    """Put a checkpoint's adapter weights into the model."""
    set_peft_model_state_dict(model, load_peft_weights(str(folder), device="cpu"))


def _workers(team: ProcessGroup) -> int:
    """Processes that make batches: on a GPU some, so that it never waits; a CPU's cores are busy with the model."""
    return max(0, min(4, (os.cpu_count() or 1) // team.per_node - 1)) if torch.cuda.is_available() else 0
