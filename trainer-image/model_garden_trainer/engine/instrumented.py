"""The training loop: transformers' Trainer, with the loss taken on answers alone, a clock, and a guard against NaN.

transformers' Trainer and not TRL's SFTTrainer: rows are rendered, masked and batched by our own Collator, so that of
SFTTrainer's additions only the cost would be left (a second pass over the logits, seconds of imports).
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from peft.helpers import disable_input_dtype_casting
from transformers import Trainer, TrainingArguments

from model_garden.contract.hyperparameters import EffectiveHyperparameters
from model_garden.contract.options import EffectiveHealth
from model_garden.contract.progress import WarningEvent
from model_garden_trainer.batches.collator import IGNORED
from model_garden_trainer.distributed.process_group import ProcessGroup
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.events import Report

PARTS = ("data", "forward", "backward", "optimizer")


def arguments(
    h: EffectiveHyperparameters,
    *,
    checkpoints: str,
    evaluated: bool,
    micro_batch: int,
    eval_batch: int,
    accumulation: int,
    workers: int,
    some_may_be_unused: bool = True,
) -> TrainingArguments:
    """All that bites stands here in words: nothing is left to a default that a library changed before.

    ``some_may_be_unused``: of several processes each may leave out adapters that another one trains (of a vision tower
    in rows without pictures, of experts); unsloth's checkpointing does not allow it.
    """
    cuda = torch.cuda.is_available()
    result = TrainingArguments(
        output_dir=checkpoints,
        per_device_train_batch_size=micro_batch,
        per_device_eval_batch_size=eval_batch,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=h.num_epochs,
        max_steps=h.max_steps,
        learning_rate=h.learning_rate,
        warmup_steps=h.warmup_steps,
        weight_decay=h.weight_decay,
        lr_scheduler_type=h.lr_scheduler_type,
        optim=h.optim,
        max_grad_norm=h.max_grad_norm,
        seed=h.seed,
        data_seed=h.seed,
        **precision(gpu=cuda),
        gradient_checkpointing=False,  # switched on with the adapters, where it is
        save_strategy="steps",
        save_steps=h.save_steps,
        save_total_limit=None,  # checkpoints.prune: an older one goes only after a newer one is sealed
        eval_strategy="steps" if evaluated else "no",
        eval_steps=h.eval_steps if evaluated else None,
        metric_for_best_model="eval_loss" if evaluated else None,
        greater_is_better=False if evaluated else None,
        prediction_loss_only=True,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        label_names=["labels"],
        remove_unused_columns=False,
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,  # a start costs each of them seconds of imports
        dataloader_pin_memory=cuda,
        dataloader_drop_last=False,
        average_tokens_across_devices=True,
        ddp_find_unused_parameters=some_may_be_unused,
        report_to="none",
        push_to_hub=False,
        disable_tqdm=True,
    )
    result._n_gpu = min(result.n_gpu, 1)  # one process trains on one GPU, whatever others it sees
    return result


def precision(*, gpu: bool) -> dict[str, bool]:
    """What ``TrainingArguments`` are told of it: on a GPU the model computes in bfloat16 by autocast, while adapters,
    their gradients and the optimizer stay float32. On a CPU all is computed in the dtype that the weights have."""
    return {"use_cpu": not gpu, "bf16": gpu, "fp16": False}


class Clock:
    """Where a step's time goes, in seconds: data, forward, backward, optimizer, summed until ``take``.

    On a GPU a part ends when the GPU has ended it, so that the figures are the work and not the launching of it.
    """

    def __init__(self) -> None:
        self._wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
        self._spent = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the time within to ``part``."""
        began = time.perf_counter()
        yield
        self.end(part, began)

    def end(self, part: str, began: float) -> None:
        """Add the time since ``began`` to ``part``, which ends here: on a GPU, when that has done what it was given.

        The wait costs what would have overlapped: the GPU's work on this part, with the launching of the next one.
        """
        self._wait()
        self._spent[part] += time.perf_counter() - began

    def add(self, part: str, seconds: float) -> None:
        """Add ``seconds`` to ``part``; negative ones take away what another part has counted."""
        self._spent[part] += seconds

    def spent(self, part: str) -> float:
        """The sum of ``part`` so far."""
        return self._spent[part]

    def take(self) -> dict[str, float]:
        """The sums, which start again at 0."""
        spent, self._spent = self._spent, dict.fromkeys(PARTS, 0.0)
        return spent


@dataclass
class Window:
    """Figures since the last report; a checkpoint keeps ``loss`` and ``steps``: a resumed run reports the same."""

    loss: float = 0.0
    steps: int = 0
    samples: int = 0
    tokens: int = 0
    seconds: float = 0.0
    timed_steps: int = 0
    parts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))


class Loop(Trainer):
    """Trains the adapters of ``model`` on batches of the Collator.

    Args:
        model_has_own_loss: leave the loss to the model (unsloth computes it in a fused kernel).
        health: what happens when loss or gradient is no finite number.
        report: gets a warning for each update that was skipped.
        team: the processes that train together, whose losses are told as one.
        eval_collator: makes the batches of an evaluation, which is never packed.
    """

    data_collator: Any

    def __init__(
        self,
        *,
        model_has_own_loss: bool,
        health: EffectiveHealth,
        report: Report,
        team: ProcessGroup | None = None,
        eval_collator: Any,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.team = team or ProcessGroup()
        self._eval_collator = eval_collator
        self.model_accepts_loss_kwargs = True  # the loss is a sum over tokens divided by those of the whole step
        self._loss_shifts_labels = True
        self._own_loss = not model_has_own_loss
        self._takes_positions = "logits_to_keep" in inspect.signature(_unwrap(self.model).forward).parameters
        self._skip_non_finite = health.non_finite_loss == "Skip"
        self._report = report
        self._step_loss: torch.Tensor | float = 0.0
        self._step_began = time.perf_counter()
        self.clock = Clock()
        self.window = Window()
        self.grad_norm = math.nan
        self.skipped_updates = 0

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], Any]:
        """One optimizer step's micro-batches, and the number of trained tokens in them all."""
        self._step_began = time.perf_counter()
        with self.clock.measure("data"):
            batches, items = super().get_batch_samples(map(raise_if_failed, epoch_iterator), num_batches, device)
        self.window.samples += sum(len(batch["input_ids"]) for batch in batches)
        self.window.tokens += sum(int(batch["attention_mask"].sum()) for batch in batches)
        return batches, items

    def get_train_dataloader(self) -> Any:
        """The loader of batches to train on."""
        return _with_own_generator(super().get_train_dataloader())

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """The loader of evaluation batches."""
        collator, self.data_collator = self.data_collator, self._eval_collator
        try:
            return _with_own_generator(super().get_eval_dataloader(eval_dataset))
        finally:
            self.data_collator = collator

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward of one micro-batch, or of all those of a packed step; their share of the step's loss."""
        before = self.clock.spent("forward")
        with self.clock.measure("backward"):
            losses = []
            parts = inputs.get("micro_batches", [inputs])
            for number, part in enumerate(parts, 1):
                # gradients are exchanged once a step: processes may have packed theirs in different numbers of parts
                apart = nullcontext() if number == len(parts) else self.accelerator.no_sync(model)
                with apart:
                    losses.append(super().training_step(model, part, num_items_in_batch))
        self.clock.add("backward", before - self.clock.spent("forward"))  # the forward pass ran within
        loss = torch.stack(losses).sum()
        self._step_loss = self._step_loss + loss
        return loss

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Cross entropy summed over trained tokens, divided by ``num_items_in_batch`` (those of all micro-batches of
        the step, so that splitting a batch changes nothing), or by its own where there is none.

        Logits are computed only where some row of the batch is trained: of a picture's thousand tokens none is, and
        each would cost a vocabulary's width of memory.
        """
        with self.clock.measure("forward"):
            if not self._own_loss:
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch=num_items_in_batch)
            targets = inputs["labels"][:, 1:]
            positions = (targets != IGNORED).any(dim=0).nonzero().squeeze(1)
            options = {key: value for key, value in inputs.items() if key != "labels"}
            if self._takes_positions:
                options["logits_to_keep"] = positions
            outputs = model(**options, use_cache=False)
            logits = outputs.logits if self._takes_positions else outputs.logits[:, positions]
            targets = targets[:, positions]
            total = torch.nn.functional.cross_entropy(
                logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
            )
            if num_items_in_batch is None:
                loss = total / (targets != IGNORED).sum()
            else:
                loss = total / num_items_in_batch * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def autocast_adapters(self) -> AbstractContextManager[None]:
        """Within it, and where autocast is on, peft leaves the input of an adapted layer as it is: autocast brings the
        adapter to the input's dtype, and a copy of each input in float32 would be for nothing."""
        casting: AbstractContextManager[None] = disable_input_dtype_casting(self.model, active=self.args.bf16)
        return casting

    def probe_batch(self, batch: dict[str, torch.Tensor]) -> None:
        """Forward and backward of a micro-batch as in training, to see whether it fits; gradients are dropped again.

        The optimizer has not begun: room for its two moments of each trained number is held meanwhile, and for the
        buckets in which several processes exchange gradients.
        """
        copies = 2 if self.accelerator.num_processes == 1 else 3
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        try:
            room = [torch.empty_like(parameter) for parameter in trained for _ in range(copies)]
            self.model.train()
            with self.autocast_adapters(), self.accelerator.autocast():
                inputs = self._prepare_inputs(batch)
                loss = self.compute_loss(self.model, inputs, num_items_in_batch=trained_tokens(inputs["labels"]))
            loss.backward()
            del room
        finally:
            self.model.zero_grad()

    def evaluation_loop(self, *args: Any, **options: Any) -> Any:
        """The evaluation, whose loss is the mean over all trained tokens, however they were batched."""
        self._evaluated = torch.zeros(2, dtype=torch.float64)
        output = super().evaluation_loop(*args, **options)
        loss, tokens = self._evaluated.tolist()
        prefix = options.get("metric_key_prefix", "eval")
        output.metrics[f"{prefix}_loss"] = loss / tokens
        if not math.isfinite(loss):
            self._judge_evaluation(loss)
        return output

    def _judge_evaluation(self, loss: float) -> None:
        """What ``health.nonFiniteLoss`` says of an evaluation without a result: the end, or a warning and no figure."""
        told = f"step {self.state.global_step}: the evaluation's loss is {loss}"
        if not self._skip_non_finite:
            raise TrainingError(
                "LossIsNaN",
                f"{told}; the last checkpoint is kept. Lower hyperparameters.learningRate "
                f"({self.args.learning_rate:g}), look at the validation rows, or set health.nonFiniteLoss: Skip",
            )
        self._report(WarningEvent(message=f"{told}; this evaluation is left out"))

    def prediction_step(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> tuple[Any, None, None]:
        """The loss of an evaluation's batch: of the batches that all processes take at once, the mean over tokens."""
        inputs = self._prepare_inputs(raise_if_failed(inputs))
        inputs["labels"] = inputs["labels"].clone()
        inputs["labels"][self._new_rows(len(inputs["labels"])) :] = IGNORED
        tokens = self.accelerator.reduce(trained_tokens(inputs["labels"]), "sum")
        with torch.no_grad():
            loss = self.accelerator.reduce(self.compute_loss(model, inputs, num_items_in_batch=tokens), "mean")
        self._evaluated += torch.tensor([float(loss) * float(tokens), float(tokens)], dtype=torch.float64)
        return loss, None, None

    def _new_rows(self, count: int) -> int:
        """How many of this process's ``count`` rows are new: of several processes the last batches are filled up with
        rows that were there before."""
        state = self.accelerator.gradient_state
        if self.accelerator.num_processes == 1 or not state.end_of_dataloader or state.remainder <= 0:
            return count
        remainder: int = state.remainder - self.accelerator.process_index * count
        return min(count, max(0, remainder))

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The gradient's norm; the last place before the update where a bad step can still be kept from the weights."""
        norm = super()._get_grad_norm(model, grad_norm)
        self.grad_norm = float(norm)
        (total,), self._step_loss = self.team.sums([float(self._step_loss)]), 0.0
        loss = total / self.team.size  # each has multiplied its share by their number
        if math.isfinite(loss) and math.isfinite(self.grad_norm):
            self.window.loss += loss
            self.window.steps += 1
            return norm
        step = self.state.global_step + 1
        if not self._skip_non_finite:
            raise TrainingError(
                "LossIsNaN",
                f"step {step}: loss {loss}, gradient norm {self.grad_norm}; the update was not made and the last "
                f"checkpoint is kept. Lower hyperparameters.learningRate ({self.args.learning_rate:g}) or maxGradNorm, "
                "look at the rows, or set health.nonFiniteLoss: Skip",
            )
        model.zero_grad()  # an optimizer passes over parameters without a gradient
        self.skipped_updates += 1
        self._report(WarningEvent(message=f"step {step}: loss {loss}, gradient norm {self.grad_norm}; update skipped"))
        return norm

    def step_seconds(self) -> float:
        """Seconds since this step began to gather its data."""
        return time.perf_counter() - self._step_began


def trained_tokens(labels: torch.Tensor) -> torch.Tensor:
    """How many tokens of a batch (rows x length) carry loss: the first of a row is never predicted."""
    return (labels[:, 1:] != IGNORED).sum()


def raise_if_failed(batch: dict[str, Any]) -> dict[str, Any]:
    """``batch``, or what made it impossible, which a data loader's worker can only tell in place of a batch.

    Raises:
        TrainingError: the collator's.
    """
    if "error" in batch:
        raise TrainingError(*batch["error"])
    return batch


def _with_own_generator(loader: Any) -> Any:
    """accelerate's ``loader`` with random numbers of its own. It draws one whenever it starts its workers, which a
    resumed run does at other times than an unbroken one: taken from dropout's numbers, those would be others after it.
    """
    loader.base_dataloader.generator = torch.Generator().manual_seed(0)
    return loader


def _unwrap(model: Any) -> Any:
    """The model under its adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
