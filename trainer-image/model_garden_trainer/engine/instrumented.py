"""What every training method gets, whichever trainer of TRL it extends.

A clock, the figures of a report, a guard against losses that are not finite, and random numbers that a resumed run
repeats:

    class InstrumentedDPO(Instrumented, DPOTrainer): ...
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from peft.helpers import disable_input_dtype_casting
from transformers import Trainer, TrainingArguments

from model_garden.contract.options import EffectiveHealth
from model_garden.contract.progress import StageEvent, WarningEvent
from model_garden_trainer.batches.loading import raise_if_failed
from model_garden_trainer.distributed.process_group import ProcessGroup
from model_garden_trainer.engine.clock import Clock, Window
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.events import Report

FIRST_STEPS = 3
"""A run whose first steps have no gradient at all is ended: compiled code can lose it and keep the right loss."""


class Instrumented(Trainer):
    """A mixin: name it before the trainer that it instruments.

    Args:
        args: the settings, of the class that the trainer wants.
        health: what happens when a loss or a gradient is not finite.
        report: gets a warning for each update that was skipped.
        team: the processes that train together, whose losses are reported as one.
        options: what the trainer itself wants.
    """

    MAY_LACK_GRADIENT = False
    """Whether a step without any gradient is in order, as where all answers of a group have the same reward."""

    def __init__(
        self,
        *,
        args: TrainingArguments,
        health: EffectiveHealth,
        report: Report,
        team: ProcessGroup | None = None,
        **options: Any,
    ) -> None:
        args._n_gpu = min(args.n_gpu, 1)  # one process trains on one GPU, whatever others it sees
        super().__init__(args=args, **options)
        self.team = team or ProcessGroup()
        self._skip_non_finite = health.non_finite_loss == "Skip"
        self._report = report
        self._step_loss: torch.Tensor | float = 0.0
        self.step_began = time.perf_counter()
        self.clock = Clock()
        self.window = Window()
        self.method_metrics: dict[str, list[float]] = self._metrics["train"] if hasattr(self, "_metrics") else {}
        self.evaluated_metrics: dict[str, float] = {}
        self.grad_norm = math.nan
        self.skipped_updates = 0
        self._first_norms: list[float] = []

    def take_metrics(self) -> dict[str, float]:
        """The means of the method's own figures since they were last taken, by TRL's names."""
        found = means(self.method_metrics)
        self.method_metrics.clear()
        return found

    def count(self, batch: dict[str, Any]) -> tuple[int, int | torch.Tensor]:
        """How many samples and how many tokens, without padding, a batch of this method holds."""
        return len(batch["input_ids"]), batch["attention_mask"].sum()

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], Any]:
        """The micro-batches of one optimizer step, and the number of trained tokens in all of them."""
        self.step_began = time.perf_counter()
        with self.clock.measure("data"):
            batches, items = super().get_batch_samples(map(raise_if_failed, epoch_iterator), num_batches, device)
        for samples, tokens in map(self.count, batches):
            self.window.samples += samples
            self.window.tokens = self.window.tokens + tokens
        return batches, items

    def get_train_dataloader(self) -> Any:
        """The loader of training batches."""
        return _with_own_generator(super().get_train_dataloader())

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """The loader of evaluation batches."""
        return _with_own_generator(super().get_eval_dataloader(eval_dataset))

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """The learning rate schedule, in which the last step is never warmup.

        transformers rounds a share of the steps up: the only step of a run would have a learning rate of 0, and
        the polynomial schedule divides by the number of steps after the warmup.
        """
        warmup = self.args.get_warmup_steps(num_training_steps)
        self.args.warmup_steps = min(warmup, max(0, num_training_steps - 1))
        return super().create_scheduler(num_training_steps, optimizer)

    def training_step(self, *args: Any, **options: Any) -> torch.Tensor:
        """Forward and backward of one batch from the loader; the result is its share of the step's loss."""
        with self.clock.measure("backward"):
            loss = super().training_step(*args, **options)
        self._step_loss = self._step_loss + loss
        return loss

    def compute_loss(self, *args: Any, **options: Any) -> Any:
        """The method's loss, measured where it is trained on."""
        with self.clock.measure("forward") if self.model.training else nullcontext():
            return super().compute_loss(*args, **options)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:  # noqa: ARG002  transformers' signature
        """0: no figure is made of them, and to count them every parameter is looked at for each batch."""
        return 0

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **options: Any) -> Any:
        """The method's evaluation of one batch.

        Raises:
            TrainingError: the error of the collator, which made no batch.
        """
        return super().prediction_step(model, raise_if_failed(inputs), *args, **options)

    def evaluation_loop(self, *args: Any, **options: Any) -> Any:
        """The method's evaluation.

        Raises:
            TrainingError: LossIsNaN for a loss that is not finite, unless ``health.nonFiniteLoss`` is ``Skip``.
        """
        self._report(StageEvent(stage="evaluating"))
        output = super().evaluation_loop(*args, **options)
        own: dict[str, list[float]] = self._metrics["eval"] if hasattr(self, "_metrics") else {}
        self.evaluated_metrics = {f"eval_{name.removeprefix('eval_')}": value for name, value in means(own).items()}
        self._report(StageEvent(stage="training"))
        loss = output.metrics[f"{options.get('metric_key_prefix', 'eval')}_loss"]
        if not math.isfinite(loss):
            self._judge_evaluation(loss)
        return output

    def _judge_evaluation(self, loss: float) -> None:
        message = f"step {self.state.global_step}: the evaluation's loss is {loss}"
        if not self._skip_non_finite:
            raise TrainingError(
                "LossIsNaN",
                f"{message}; the last checkpoint is kept. Lower hyperparameters.learningRate "
                f"({self.args.learning_rate:g}), look at the validation rows, or set health.nonFiniteLoss: Skip",
            )
        self._report(WarningEvent(message=f"{message}; this evaluation is skipped"))

    def autocast_adapters(self) -> AbstractContextManager[None]:
        """Within it, and where autocast is on, peft does not copy the input of an adapted layer to float32.

        Autocast casts the adapter to the dtype of the input, so that the copy would be wasted.
        """
        casting: AbstractContextManager[None] = disable_input_dtype_casting(self.model, active=self.args.bf16)
        return casting

    @contextmanager
    def without_walks(self) -> Iterator[None]:
        """Within it, a model that is in training mode is not put there again, module by module, for each batch.

        What counts is the last walk. The model's own flag may be ahead of its layers: one with new adapters says that
        it is in training mode, and Unsloth sets the flag before it asks for the walk.
        """
        model, walk, walked = self.model, self.model.train, True

        def train(mode: bool = True) -> Any:
            nonlocal walked
            if walked is mode and model.training is mode:
                return model
            walked = mode
            return walk(mode)

        walk()
        model.train = train
        try:
            yield
        finally:
            del model.train

    def try_batch(self, batch: dict[str, torch.Tensor]) -> None:
        """Run forward and backward of a micro-batch as in training, to see whether it fits; drop the gradients.

        Nothing is compiled: the first compilation belongs to training, and what fits without it fits with it. No
        optimizer exists yet. Room is held for its two moments of each trained number, and for the buckets in which
        several processes exchange gradients.
        """
        copies = 2 if self.accelerator.num_processes == 1 else 3
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        try:
            room = [torch.empty_like(parameter) for parameter in trained for _ in range(copies)]
            self.model.train()
            with torch.compiler.set_stance("force_eager"):
                with self.autocast_adapters(), self.accelerator.autocast():
                    loss = self.compute_loss(self.model, self._prepare_inputs(batch))
                loss.backward()
            del room
        finally:
            self.model.zero_grad()

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The norm of the gradient. Here is the last chance to keep a bad step from the weights."""
        norm = super()._get_grad_norm(model, grad_norm)
        self.grad_norm = float(norm)
        (total,), self._step_loss = self.team.sums([float(self._step_loss)]), 0.0
        loss = total / self.team.size  # each process has multiplied its share by their number
        if math.isfinite(loss) and math.isfinite(self.grad_norm):
            self.window.loss += loss
            self.window.steps += 1
            self._refuse_no_gradient()
            return norm
        message = f"step {self.state.global_step + 1}: the loss is {loss} and the gradient norm {self.grad_norm}"
        if not self._skip_non_finite:
            raise TrainingError(
                "LossIsNaN",
                f"{message}. The weights were not updated, and the last checkpoint is kept. Lower "
                f"hyperparameters.learningRate ({self.args.learning_rate:g}) or maxGradNorm, check the data, or set "
                "health.nonFiniteLoss: Skip",
            )
        model.zero_grad()  # an optimizer skips parameters without a gradient
        self.skipped_updates += 1
        self._report(WarningEvent(message=f"{message}; update skipped"))
        return norm

    def _refuse_no_gradient(self) -> None:
        """End a run none of whose first steps has a gradient.

        Raises:
            TrainingError: NoGradient.
        """
        first, step = self._first_norms, self.state.global_step + 1
        if self.MAY_LACK_GRADIENT or len(first) == FIRST_STEPS:
            return
        first.append(self.grad_norm)
        if not any(first) and (len(first) == FIRST_STEPS or step == self.state.max_steps):
            raise TrainingError(
                "NoGradient",
                f"step {step}: the loss is finite, but the gradient was exactly 0 in the first "
                f"{len(first)} step(s), so nothing is trained. Set backend: transformers",
            )


def means(figures: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The mean of each figure that has values, without TRL's count of tokens, which a resumed run begins anew."""
    return {
        name: sum(values) / len(values)
        for name, values in figures.items()
        if values and name not in ("num_tokens", "step_time") and math.isfinite(sum(values))
    }


def _with_own_generator(loader: Any) -> Any:
    """accelerate's ``loader`` with random numbers of its own.

    The loader draws one whenever it starts its workers, which a resumed run does at other times than an unbroken one.
    Drawn from the generator of dropout, it would change every later mask.
    """
    loader.base_dataloader.generator = torch.Generator().manual_seed(0)
    return loader
