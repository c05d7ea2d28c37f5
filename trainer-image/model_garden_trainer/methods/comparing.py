"""What the methods that compare answers share: TRL's trainer on batches of our collator, beside its own loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from model_garden.datasets import Example
from model_garden_trainer.batches.collator import IGNORED, Batch, Collator
from model_garden_trainer.batches.loading import Batches
from model_garden_trainer.batches.splits import Data
from model_garden_trainer.engine.batch_size import Split
from model_garden_trainer.engine.context import Run, Trained
from model_garden_trainer.engine.fit import fit
from model_garden_trainer.engine.instrumented import Instrumented
from model_garden_trainer.methods.finished_batches import FinishedBatches, numbers, run_arguments
from model_garden_trainer.models import trained_weights

Collate = Callable[[list[Example]], Any]
"""Makes what the trainer of TRL wants of some rows."""


@dataclass(frozen=True)
class Method:
    """What one method has of its own.

    Args:
        collator: makes of the encoder, and of the rows to train on, what makes batches.
        trainer: makes the trainer of the arguments that ``_options`` gives, and of ``args``.
        settings: the settings of a run, in TRL's config class of the method.
    """

    collator: Callable[[Collator, Data], Collate]
    trainer: Callable[..., Instrumented]
    settings: Callable[[Run, Data, Split], TrainingArguments]


def train(method: Method, run: Run, model: Any, encoder: Collator, data: Data, longest: Example) -> Trained:
    """Train the adapters of ``model``.

    Args:
        method: how.
        run: what to train and where to.
        model: the base model with fresh adapters.
        encoder: renders and masks conversations.
        data: rows of the method, to train on and to evaluate on.
        longest: an example of the greatest length, by which the batch size is found.

    Raises:
        TrainingError, Stopped: see ``fit``.
    """
    collate = method.collator(encoder, data)

    def trainer_of(split: Split) -> Instrumented:
        drop_reference(model)
        options = _options(run, model, encoder, data, collate)
        return method.trainer(args=method.settings(run, data, split), **options)

    trained = fit(run, model, trainer_of, lambda size: collate([longest] * size))
    drop_reference(model)
    return trained


class Comparing(FinishedBatches):
    """A mixin: name it before the trainer of TRL that it feeds. It keeps TRL's own loss and metrics.

    TRL's loss of a micro-batch is a mean over its rows. Here each row of a step counts the same, also where the last
    micro-batch of the data has fewer rows.
    """

    def __init__(self, **options: Any) -> None:
        self._weights: dict[int, float] = {}
        super().__init__(**options)

    def get_batch_samples(self, *args: Any) -> tuple[list[Any], Any]:
        """The micro-batches of one optimizer step."""
        batches, items = super().get_batch_samples(*args)
        rows = [self._rows(batch) for batch in batches]
        self._weights = {count: count * len(rows) / sum(rows) for count in rows}
        return batches, items

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        """TRL's loss of a micro-batch, weighted by its rows where it is trained on."""
        loss = super().compute_loss(model, inputs, *args, **options)
        return loss * self._weights.get(self._rows(inputs), 1.0) if self.model.training else loss

    def _rows(self, batch: Any) -> int:
        """How many rows of the data a micro-batch has."""
        return len(batch["input_ids"])

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the trained adapter. Where a reference adapter exists too, transformers would load that one alone."""
        trained_weights.load(self.model if model is None else model, Path(resume_from_checkpoint))

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        """Leave the row numbers alone: the collator renders, masks and batches the rows."""
        return dataset


def _options(run: Run, model: Any, encoder: Collator, data: Data, collate: Collate) -> dict[str, Any]:
    """The arguments of a trainer of this kind, but for ``args``."""
    evaluated = len(data.validation) > 0
    return {
        "model": model,
        "processor": encoder.processor,
        "health": run.spec.health,
        "report": run.report,
        "team": run.team,
        "data_collator": Batches(data.training, collate),
        "eval_collator": Batches(data.validation, collate),
        "train_dataset": numbers(len(data.training)),
        "eval_dataset": numbers(len(data.validation)) if evaluated else None,
    }


def common_arguments(run: Run, data: Data, split: Split) -> dict[str, Any]:
    """The settings of every such method, for TRL's config class of it."""
    return run_arguments(run, data, split, split) | {
        "max_length": None,  # a longer row is refused before
        "disable_dropout": run.spec.lora_config.lora_dropout == 0,  # what is asked for of the adapters is kept
    }


def completion_mask(batch: Batch) -> torch.Tensor:
    """Which tokens (rows x length) belong to the answers, as TRL wants it."""
    return (batch["labels"] != IGNORED).long()


def pairs(examples: list[Example]) -> list[Example]:
    """Rows of preferences as TRL orders them in a batch: all chosen conversations, then all rejected ones."""
    chosen, rejected = zip(*(example.sequences for example in examples), strict=True)
    return [*chosen, *rejected]


def drop_reference(model: Any) -> None:
    """Remove the reference of a trainer: one that tried another batch size, or one that has ended."""
    if "ref" in model.peft_config:
        model.delete_adapter("ref")


def reference_without_adapters(model: Any) -> None:
    """Let the base model be the reference, where the adapters change nothing yet.

    TRL copies the adapters for that, since it cannot know. A copy is needed only where training begins with adapters
    that change the model.
    """
    if "ref" in model.peft_config and _changes_nothing(model):
        model.delete_adapter("ref")


def _changes_nothing(model: Any) -> bool:
    last = [weight for name, weight in model.named_parameters() if ".ref." in name and "lora_B" in name]
    return all(not bool(weight.any()) for weight in last)
