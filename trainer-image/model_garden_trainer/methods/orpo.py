"""Odds ratio preference optimization (arXiv 2403.07691): TRL's ORPOTrainer, its loss and its metrics, on our batches.

There is no reference. The loss of the chosen answer counts its prompt too, as TRL computes it. TRL has this trainer
among its experimental ones; it takes no images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from model_garden.datasets import Example
from model_garden_trainer.batches.collator import Batch, Collator
from model_garden_trainer.batches.splits import Data
from model_garden_trainer.engine.batch_size import Split
from model_garden_trainer.engine.context import Run, Trained
from model_garden_trainer.engine.fit import fit
from model_garden_trainer.engine.instrumented import Instrumented
from model_garden_trainer.methods import comparing


def train(run: Run, model: Any, encoder: Collator, data: Data, *, longest: Example) -> Trained:
    """Train the adapters of ``model`` on the chosen answers, and to prefer them.

    Args:
        run: what to train and where to.
        model: the base model with fresh adapters.
        encoder: renders and masks conversations.
        data: rows of preferences, to train on and to evaluate on.
        longest: an example of the greatest length, by which the batch size is found.

    Raises:
        TrainingError, Stopped: see ``fit``.
    """
    collate = OddsCollator(encoder)

    def trainer_of(split: Split) -> OddsTrainer:
        options = comparing.options(run, model, encoder, data, collate)
        options["train_dataset"] = _Untouched.from_dict({"row": list(range(len(data.training)))})
        if data.validation:
            options["eval_dataset"] = _Untouched.from_dict({"row": list(range(len(data.validation)))})
        return OddsTrainer(args=_settings(run, encoder, data, split), **options)

    return fit(run, model, trainer_of, lambda size: collate([longest] * size))


@dataclass(frozen=True)
class OddsCollator:
    """Rows of preferences -> a batch as ORPOTrainer wants it: input_ids, attention_mask and labels (each rows x length)
    with the prefixes chosen and rejected."""

    encoder: Collator

    def __call__(self, examples: list[Example]) -> Batch:
        """Encode a batch.

        Raises:
            TrainingError: InvalidDataset, as the encoder's.
        """
        batch, rows = self.encoder(comparing.pairs(examples)), len(examples)
        halves = {"chosen": slice(0, rows), "rejected": slice(rows, None)}
        keys = ("input_ids", "attention_mask", "labels")
        return {f"{side}_{key}": batch[key][half] for side, half in halves.items() for key in keys}


class OddsTrainer(Instrumented, comparing.Comparing, ORPOTrainer):
    """The trainer of a run: ORPOTrainer on finished batches, instrumented."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.use_dpo_data_collator = True  # batches are as TRL's own collator makes them

    @property
    def _metrics(self) -> dict[str, dict[str, list[float]]]:
        """The figures of training and of an evaluation, under the name that TRL's other trainers have for them."""
        found: dict[str, dict[str, list[float]]] = self._stored_metrics
        return found

    def count(self, batch: dict[str, Any]) -> tuple[int, int]:
        """Rows and tokens of a batch."""
        masks = (batch["chosen_attention_mask"], batch["rejected_attention_mask"])
        return len(masks[0]), sum(int(mask.sum()) for mask in masks)


class _Untouched(Dataset):
    """Row numbers on which TRL's preparation of rows has no effect: the collator renders, masks and batches them."""

    def map(self, *_: Any, **__: Any) -> _Untouched:
        """The same rows."""
        return self


def _settings(run: Run, encoder: Collator, data: Data, split: Split) -> ORPOConfig:
    orpo = run.spec.orpo
    assert orpo is not None
    common = comparing.common_arguments(run, data, split) | {"max_length": run.h.max_seq_length}
    return ORPOConfig(**common, beta=orpo.beta, padding_value=encoder.tokenizer.pad_token_id)
