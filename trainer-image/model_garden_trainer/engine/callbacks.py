"""What happens at the end of a step, a callback each: report, evaluation, checkpoint, stop, heartbeat."""

# ruff: noqa: ARG002, D102  the signatures and the meaning of the methods are those of TrainerCallback

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy

from model_garden.contract.memory_estimate import GIB
from model_garden.contract.progress import CheckpointEvent, ProgressEvent, WarningEvent
from model_garden.contract.status import Progress
from model_garden.contract.time import timestamp
from model_garden_trainer.distributed.process_group import ProcessGroup
from model_garden_trainer.engine import checkpoints
from model_garden_trainer.engine.clock import PARTS, Window
from model_garden_trainer.engine.context import Run
from model_garden_trainer.engine.forecast import Forecast
from model_garden_trainer.engine.input_stall import Waiting
from model_garden_trainer.engine.instrumented import Instrumented
from model_garden_trainer.engine.stopping import StopRequests
from model_garden_trainer.engine.watchdog import Watchdog
from model_garden_trainer.evaluation.questions import asking
from model_garden_trainer.events import log


class ProgressCallback(TrainerCallback):
    """Progress events and ``metrics.jsonl``, every ``logging_steps`` steps and at the last.

    A stopped run makes no extra report: its next attempt reports what an unbroken run would.
    """

    def __init__(self, trainer: Instrumented, obeying: GracefulStopCallback, run: Run) -> None:
        self._trainer, self._obeying, self._report, self._metrics = trainer, obeying, run.report, run.metrics
        self._every = run.h.logging_steps
        self.forecast = _forecast(trainer, run)
        self._step_ended: float | None = None
        self._waiting = Waiting(vision=run.spec.vision)
        self._optimizer_began: Any = None
        self._learning_rate = 0.0
        asked = run.spec.evaluation
        self._asking = {"asking": asking(asked)} if asked and asked.every_evaluations else {}
        self.last: Progress | None = None
        self.losses: list[float] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.forecast.total = state.max_steps
        if step := state.global_step:  # resumed: the forecast of the earlier attempt is past or wrong
            last = self._metrics.last()
            figures = last if last and last.step == step else Progress(step=step, total_steps=state.max_steps)
            self._report(ProgressEvent(progress=figures.model_copy(update=self._times(step))))

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._step_ended is not None:
            self.forecast.add_pause(state.global_step, self._trainer.step_began - self._step_ended)
            self._step_ended = None

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._optimizer_began = self._trainer.clock.now("optimizer")

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._trainer.clock.end("optimizer", self._optimizer_began)
        self._learning_rate = float(self._trainer.optimizer.param_groups[0]["lr"])  # the scheduler has not moved it yet

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        window = self._trainer.window
        self._step_ended = time.perf_counter()
        seconds = self._step_ended - self._trainer.step_began
        self.forecast.add_step(seconds)
        window.seconds += seconds
        window.timed_steps += 1
        last = state.global_step >= state.max_steps or self._obeying.save_early
        if state.global_step % self._every and not last:
            return
        progress = self._progress(state)
        self._report_progress(progress)
        if hint := self._waiting.hint(progress, window.timed_steps):
            self._report(WarningEvent(message=hint))
            log(hint)
        self._trainer.window = Window()

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
        if not math.isfinite(metrics["eval_loss"]):
            return  # the trainer has warned of it
        base = self.last or Progress(step=state.global_step, total_steps=state.max_steps)
        figures = base.to_dict() if base.step == state.global_step else {}
        figures |= {"step": state.global_step, "totalSteps": state.max_steps, "evalLoss": rounded(metrics["eval_loss"])}
        own = {name: rounded(value) for name, value in self._trainer.evaluated_metrics.items()}
        if own:
            figures["metrics"] = figures.get("metrics", {}) | own
        progress = Progress.model_validate(figures | {"lastReportTime": timestamp()})
        self.last = progress
        self._report(ProgressEvent(progress=progress))
        self._metrics.append(
            Progress(
                step=progress.step, total_steps=progress.total_steps, eval_loss=progress.eval_loss, metrics=own or None
            ),
            **self._asking,
        )
        log(f"step {progress.step}/{progress.total_steps}  evalLoss {progress.eval_loss:.4f}")

    def _report_progress(self, progress: Progress) -> None:
        self.last = progress
        if progress.loss is not None:
            self.losses.append(progress.loss)
        self._report(ProgressEvent(progress=progress))
        self._metrics.append(progress)
        loss = "-" if progress.loss is None else f"{progress.loss:.4f}"
        log(
            f"step {progress.step}/{progress.total_steps}  loss {loss}  learningRate {progress.learning_rate:.2e}  "
            f"{progress.seconds_per_step:.2f} s/step"
        )

    def _progress(self, state: Any) -> Progress:
        window, steps = self._trainer.window, max(self._trainer.window.timed_steps, 1)
        samples, tokens = self._trainer.team.sums([window.samples, float(window.tokens)])
        per_step = window.seconds / steps
        parts = {f"{part}Seconds": seconds / steps for part, seconds in self._trainer.clock.take().items()}
        assert set(parts) == {f"{part}Seconds" for part in PARTS}
        if rows := self._trainer.eval_dataset:
            self.forecast.expect_evaluation(parts["forwardSeconds"] * steps * len(rows) / max(samples, 1))
        figures = {
            "step": state.global_step,
            "totalSteps": state.max_steps,
            "epoch": state.epoch,
            "percent": 100 * state.global_step / state.max_steps,
            "loss": window.loss / window.steps if window.steps else None,
            "learningRate": self._learning_rate,
            "gradNorm": self._trainer.grad_norm if math.isfinite(self._trainer.grad_norm) else None,
            "secondsPerStep": per_step,
            **parts,
            "samplesPerSecond": samples / window.seconds,
            "tokensPerSecond": tokens / window.seconds,
            "answeringSeconds": self.forecast.answering_per_step(),
            "metrics": {name: rounded(value) for name, value in self._trainer.take_metrics().items()} or None,
            "gpuMemoryGiB": torch.cuda.max_memory_reserved() / GIB if torch.cuda.is_available() else None,
        }
        found = Progress.model_validate({key: rounded(value) for key, value in figures.items() if value is not None})
        return found.model_copy(update=self._times(state.global_step))

    def _times(self, step: int) -> dict[str, str]:
        """The times of a report: now, and the expected end of the run."""
        left = timedelta(seconds=self.forecast.seconds_left(step))
        return {"estimated_completion_time": timestamp(datetime.now(UTC) + left), "last_report_time": timestamp()}


def _forecast(trainer: Instrumented, run: Run) -> Forecast:
    asked, evaluated = run.spec.evaluation, trainer.eval_dataset is not None
    return Forecast(
        total=0,
        evaluation_every=run.h.eval_steps if evaluated else None,
        save_every=run.h.save_steps,
        after_training=run.seconds_after_training,
        answers_every=asked.every_evaluations if asked else None,
        answers_after=1 + asked.compare_base if asked else 0,
    )


class EvaluationCallback(TrainerCallback):
    """After an evaluation: saves a better model, and ends training after ``patience`` evaluations without one.

    Both follow from the evaluations in the trainer's state, so that a resumed run decides alike.
    """

    def __init__(self, patience: int | None) -> None:
        self._patience = patience
        self.stopped = False

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
        losses = [loss if math.isfinite(loss) else math.inf for loss in losses]  # infinity is never better
        best = losses.index(min(losses))
        since = len(losses) - 1 - best
        if since == 0 and losses[best] < math.inf:
            control.should_save = True
        if self._patience is not None and since >= self._patience:
            log(f"step {state.global_step}: {since} evaluations without a better loss; training ends early")
            self.stopped = control.should_training_stop = control.should_save = True


class CheckpointCallback(TrainerCallback):
    """Seals a checkpoint, and only then removes older ones.

    The seal keeps what a later attempt could not know: the figures since the last report, and why training ended early.
    """

    def __init__(
        self,
        trainer: Instrumented,
        run: Run,
        micro_batch: int,
        forecast: Forecast,
        ended: Callable[[], str | None],
    ) -> None:
        self._trainer, self._run, self._micro_batch, self._ended = trainer, run, micro_batch, ended
        self._forecast = forecast
        self.step: int | None = None

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        run, window = self._run, self._trainer.window
        notes = {
            "loss": window.loss,
            "steps": window.steps,
            "metrics": dict(self._trainer.method_metrics),
            "microBatch": self._micro_batch,
            "durations": self._forecast.notes(),
            "ended": self._ended(),
        }
        folder = checkpoints.of_step(run.root, state.global_step)
        run.team.barrier()  # each process has written the state of its random numbers
        if run.team.leader:
            checkpoints.seal(folder, run.fingerprint, notes)
            checkpoints.prune(run.root, run.h.save_total_limit, state.best_global_step)
        run.team.barrier()  # and none leaves before it is complete
        self.step = state.global_step
        run.report(CheckpointEvent(step=state.global_step))


class GracefulStopCallback(TrainerCallback):
    """Ends training after this step, with a checkpoint, when a signal or a person asked any of the processes.

    A person gets the model as it is now, or a better one: the step is evaluated, if steps are, so that it is chosen by
    the rule of a whole run. A signal leaves no time for that.
    """

    def __init__(self, requests: StopRequests, team: ProcessGroup) -> None:
        self._requests, self._team = requests, team
        self.save_early = self.stopped = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            return
        self.stopped, save = self._team.any(self._requests.stop, self._requests.save)
        if self.stopped or save:
            self.save_early = not self.stopped
            control.should_save = control.should_training_stop = True
            control.should_evaluate |= self.save_early and args.eval_strategy == IntervalStrategy.STEPS


class HeartbeatCallback(TrainerCallback):
    """The watchdog's heartbeats."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._watchdog.beat()

    def on_prediction_step(self, *_: Any, **__: Any) -> None:
        self._watchdog.beat()

    def on_save(self, *_: Any, **__: Any) -> None:
        self._watchdog.beat()


def rounded(value: Any) -> Any:
    """Six significant digits: what a person or a chart can use of a float."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
