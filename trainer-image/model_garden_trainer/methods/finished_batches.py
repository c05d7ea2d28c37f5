"""What all methods share: trainers of TRL that get finished batches of our collator."""

from __future__ import annotations

import copy
import os
from typing import Any

import torch
from datasets import Dataset
from transformers import Trainer

from model_garden_trainer.batches.splits import Data
from model_garden_trainer.distributed.process_group import ProcessGroup
from model_garden_trainer.engine.arguments import arguments
from model_garden_trainer.engine.batch_size import Split
from model_garden_trainer.engine.context import Run


class FinishedBatches(Trainer):
    """A mixin: name it before the trainer of TRL that it feeds. It undoes what TRL's constructor changes.

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


def numbers(count: int) -> Dataset:
    """A data set of row numbers, which ``Batches`` reads: a start of a worker copies no rows."""
    return Dataset.from_dict({"row": list(range(count))})


def run_arguments(run: Run, data: Data, split: Split, loaded: Split) -> dict[str, Any]:
    """``arguments`` of a run.

    Args:
        run: what to train and where to.
        data: rows to train on and to evaluate on.
        split: how an effective batch is split on the device.
        loaded: how the loader gives it; another one where it packs the rows of a step.
    """
    return arguments(
        run.h,
        checkpoints=str(run.root),
        evaluated=len(data.validation) > 0,
        micro_batch=loaded.micro_batch,
        eval_batch=split.micro_batch,
        accumulation=loaded.accumulation,
        workers=workers(run.team),
        some_may_be_unused=run.backend.SOME_MAY_BE_UNUSED,
    )


def workers(team: ProcessGroup) -> int:
    """Processes that make batches: some on a GPU, so that it never waits; a CPU's cores are busy with the model."""
    return max(0, min(4, (os.cpu_count() or 1) // team.per_node - 1)) if torch.cuda.is_available() else 0
