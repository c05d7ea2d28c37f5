"""Training from the newest complete checkpoint, or from the start, to the last step or to where it is asked to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache
from transformers import PrinterCallback

from model_garden.contract.progress import ResumedEvent, WarningEvent
from model_garden_trainer.engine import callbacks, checkpoints, learning_rates
from model_garden_trainer.engine.answers import AnsweringCallback
from model_garden_trainer.engine.batch_size import Split, halved, largest_that_fits, out_of_memory, split_of
from model_garden_trainer.engine.context import Run, Trained
from model_garden_trainer.engine.instrumented import Instrumented
from model_garden_trainer.errors import Stopped, TrainingError
from model_garden_trainer.events import log, report_warning
from model_garden_trainer.models import trained_weights


def fit(
    run: Run, model: Any, trainer_of: Callable[[Split], Instrumented], longest: Callable[[int], dict[str, torch.Tensor]]
) -> Trained:
    """Train the adapters of ``model``, which holds the best weights afterwards where there were evaluations.

    Args:
        run: what to train and where to.
        model: the base model with fresh adapters.
        trainer_of: makes the training method's trainer for a way to split the effective batch.
        longest: makes a batch of so many rows of the greatest length, by which the batch size is found.

    Raises:
        TrainingError: the loss is not finite, memory ran out, or the checkpoints belong to another run.
        Stopped: a signal asked it to stop; the checkpoint of that very step is written.
    """
    checkpoint = run.team.share(lambda: _resumable(run))
    run.metrics.rewind(checkpoint.step if checkpoint else -1)
    if checkpoint and _ended(checkpoint, run):
        return _left_off(checkpoint, run, model)
    fresh = trained_weights.snapshot(model) if run.h.auto_batch_size else {}
    split = _split(run, longest, checkpoint, trainer_of)
    while True:
        try:
            return _fit_once(run, model, trainer_of(split), split, checkpoint)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            split = _smaller(run, split, error)
        finally:
            run.requests.interruptible = True
        model.zero_grad()
        run.backend.reset()
        clear_device_cache(garbage_collection=True)  # the trainer that failed, its optimizer with it
        checkpoint = checkpoints.newest(run.root)
        run.metrics.rewind(checkpoint.step if checkpoint else -1)
        trained_weights.restore(model, fresh)


def _fit_once(
    run: Run, model: Any, trainer: Instrumented, split: Split, checkpoint: checkpoints.Checkpoint | None
) -> Trained:
    if run.team.size > 1:
        torch.manual_seed(run.h.seed + run.team.rank)  # dropout differs; rows are drawn by a seed of their own
    obeying = callbacks.GracefulStopCallback(run.requests, run.team)
    telling = callbacks.ProgressCallback(trainer, obeying, run)
    judging = callbacks.EvaluationCallback(run.h.early_stopping_patience)

    def ended() -> str | None:
        return "asked" if obeying.save_early else "patience" if judging.stopped else None

    sealing = callbacks.CheckpointCallback(trainer, run, split.micro_batch, telling.forecast, ended)
    trainer.remove_callback(PrinterCallback)
    answering = AnsweringCallback(trainer, run, telling.forecast)
    for callback in (obeying, answering, telling, judging, sealing, callbacks.HeartbeatCallback(run.watchdog)):
        trainer.add_callback(callback)
    if checkpoint:
        trainer.window.loss, trainer.window.steps = checkpoint.notes["loss"], checkpoint.notes["steps"]
        trainer.method_metrics.update(checkpoint.notes["metrics"])
        telling.forecast.recall(checkpoint.notes.get("durations", {}))
    learning_rates.apart(trainer.create_optimizer(), model, run.spec)
    run.requests.interruptible = False
    with trainer.autocast_adapters(), trainer.without_walks():
        trainer.train(resume_from_checkpoint=str(checkpoint.folder) if checkpoint else None)
    run.requests.interruptible = True
    if run.team.any(run.requests.stop or obeying.stopped)[0]:
        raise Stopped(sealing.step, by_peer=not run.requests.stop)
    if not trainer.state.global_step:
        raise TrainingError("InvalidDataset", "the rows make no optimizer step; add rows, or use smaller batches")
    state = trainer.state
    last = Trained(state.global_step, telling.last, obeying.save_early, split.micro_batch, split.accumulation)
    return _with_the_best(last, run, model, state.best_global_step, state.best_metric)


def _split(
    run: Run,
    longest: Callable[[int], dict[str, torch.Tensor]],
    checkpoint: checkpoints.Checkpoint | None,
    trainer_of: Callable[[Split], Instrumented],
) -> Split:
    """How the effective batch is split: as the spec says, or with ``autoBatchSize`` into the largest micro-batches that
    fit. A resumed run keeps the split of its checkpoint. Packed rows are full: their split starts at batchSize."""
    asked = Split(run.h.batch_size, run.h.gradient_accumulation_steps)
    effective = asked.micro_batch * asked.accumulation
    if not run.h.auto_batch_size:
        return asked
    if checkpoint:
        return split_of(effective, checkpoint.notes["microBatch"])
    if run.h.packing:
        return asked
    trying = trainer_of(Split(effective, 1))

    def attempt(size: int) -> None:
        trying.try_batch(longest(size))

    try:
        return largest_that_fits(attempt, effective, run.report, everywhere=run.team.all)
    finally:
        run.backend.reset()


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
        if run.spec.method in ("kto", "grpo"):
            smaller = "set a smaller hyperparameters.batchSize, "
        if run.team.size > 1:
            smaller = "" if split.micro_batch == 1 else "set hyperparameters.autoBatchSize: false and batchSize: 1, "
        raise TrainingError(
            "OutOfMemory",
            f"a batch of {split.micro_batch} row(s) ran out of memory ({str(error).splitlines()[0]}); {smaller}lower "
            "hyperparameters.maxSeqLength or imageOptions.maxPixels, use quantization: 4bit, or use a larger GPU",
        ) from error
    message = f"a batch of {split.micro_batch} row(s) ran out of memory; training continues with batches of {size}"
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
            f"spec.outputDir: {checkpoint.folder} holds a checkpoint of a run with other settings or other data, so "
            "this run cannot resume from it and does not overwrite it; choose another outputDir, or delete that folder",
        )
    run.report(ResumedEvent(step=checkpoint.step))
    log(f"{checkpoint.folder}: training resumes from step {checkpoint.step}")
    return checkpoint


def _ended(checkpoint: checkpoints.Checkpoint, run: Run) -> bool:
    """Whether training had ended at ``checkpoint``, so that one more step would be one too many.

    If a person asked for the model since, it has ended too, unless steps are evaluated and this one was not: after the
    next step, which is evaluated, the model is chosen as in a whole run.
    """
    state = _state(checkpoint)
    evaluated = [entry["step"] for entry in state["log_history"] if "eval_loss" in entry]
    save = run.team.any(run.requests.save)[0] and (not evaluated or evaluated[-1] == state["global_step"])
    return state["global_step"] >= state["max_steps"] or checkpoint.notes["ended"] is not None or save


def _left_off(checkpoint: checkpoints.Checkpoint, run: Run, model: Any) -> Trained:
    """The result of an earlier attempt that finished training and ended before it saved the model."""
    log(f"{checkpoint.folder}: the training of this run is complete; the model is saved from this checkpoint")
    state = _state(checkpoint)
    trained_weights.load(model, checkpoint.folder)
    finished = state["global_step"] >= state["max_steps"] or checkpoint.notes["ended"] == "patience"
    micro_batch = checkpoint.notes["microBatch"]
    effective = run.h.batch_size * run.h.gradient_accumulation_steps
    progress = run.metrics.replay(lambda _: None)
    last = Trained(checkpoint.step, progress, not finished, micro_batch, effective // micro_batch)
    return _with_the_best(last, run, model, state["best_global_step"], state["best_metric"])


def _with_the_best(last: Trained, run: Run, model: Any, step: int | None, loss: float | None) -> Trained:
    """``last``, whose model gets the weights of ``step``, which has the lowest validation loss, if any step has one."""
    if step is None or loss is None:
        return last
    folder = checkpoints.of_step(run.root, step)
    if not folder.is_dir():
        missing = f"{folder}: the checkpoint with the lowest validation loss ({loss:.4f}) is missing"
        report_warning(run.report, f"{missing}, so the weights of step {last.steps}, the last one, are saved")
        return last
    trained_weights.load(model, folder)
    log(f"the weights of step {step} of {last.steps} are saved: they have the lowest validation loss, {loss:.4f}")
    return replace(last, best_step=step, best_eval_loss=loss)


def _state(checkpoint: checkpoints.Checkpoint) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((checkpoint.folder / "trainer_state.json").read_text())
    return content
