"""What the methods that compare answers share: TRL's trainer on batches of our collator, beside its own loss."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

from model_garden.datasets import Example
from model_garden_trainer.batches.collator import IGNORED, Batch, Collator
from model_garden_trainer.batches.loading import Batches
from model_garden_trainer.batches.splits import Data
from model_garden_trainer.engine.arguments import arguments
from model_garden_trainer.engine.batch_size import Split
from model_garden_trainer.engine.context import Run
from model_garden_trainer.methods.sft import _workers, numbers
from model_garden_trainer.models import trained_weights

Collate = Callable[[list[Example]], Any]
"""Makes what the trainer of TRL wants of some rows."""


class Comparing(Trainer):
    """A mixin: name it before the trainer of TRL that it feeds.

    It hands TRL finished batches, undoes what TRL's constructor changes, and keeps TRL's own loss and metrics.

    Args:
        processor: the model's own; TRL wants one, and gets a copy that it may change.
        eval_collator: makes the batches of an evaluation.
        options: those of the trainer.
    """

    data_collator: Any

    def __init__(self, *, processor: Any, eval_collator: Any, **options: Any) -> None:
        model = options["model"]
        adapters = {name: weight.data for name, weight in model.named_parameters() if weight.requires_grad}
        super().__init__(processing_class=copy.deepcopy(processor), **options)
        for name, weight in self.model.named_parameters():
            if name in adapters:  # TRL stores QLoRA adapters in bfloat16, in which small updates are lost
                weight.data = adapters[name]
        self.processing_class = self.callback_handler.processing_class = None  # it would be saved with each checkpoint
        self._eval_collator = eval_collator

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write no card into a checkpoint: a run writes one for its output."""

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """The loader of evaluation batches."""
        collator, self.data_collator = self.data_collator, self._eval_collator
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = collator

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the trained adapter. Where a reference adapter exists too, transformers would load that one alone."""
        trained_weights.load(self.model if model is None else model, Path(resume_from_checkpoint))

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        """Leave the row numbers alone: the collator renders, masks and batches the rows."""
        return dataset


def options(run: Run, model: Any, encoder: Collator, data: Data, collate: Collate) -> dict[str, Any]:
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
    return arguments(
        run.h,
        checkpoints=str(run.root),
        evaluated=len(data.validation) > 0,
        micro_batch=split.micro_batch,
        eval_batch=split.micro_batch,
        accumulation=split.accumulation,
        workers=_workers(run.team),
        some_may_be_unused=run.backend.SOME_MAY_BE_UNUSED,
    ) | {
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
