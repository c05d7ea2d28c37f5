"""Direct preference optimization (arXiv 2305.18290): TRL's DPOTrainer, its loss and its metrics, on our batches.

The reference is the base model: the same model with its adapters switched off, so that no second copy is in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trl import DPOConfig, DPOTrainer

from model_garden.datasets import Example
from model_garden_trainer.batches.collator import Batch, Collator
from model_garden_trainer.batches.splits import Data
from model_garden_trainer.engine.batch_size import Split
from model_garden_trainer.engine.context import Run, Trained
from model_garden_trainer.engine.fit import fit
from model_garden_trainer.engine.instrumented import Instrumented
from model_garden_trainer.methods import comparing


def train(run: Run, model: Any, encoder: Collator, data: Data, *, longest: Example) -> Trained:
    """Train the adapters of ``model`` to prefer the chosen answers.

    Args:
        run: what to train and where to.
        model: the base model with fresh adapters.
        encoder: renders and masks conversations.
        data: rows of preferences, to train on and to evaluate on.
        longest: an example of the greatest length, by which the batch size is found.

    Raises:
        TrainingError, Stopped: see ``fit``.
    """
    collate = PairCollator(encoder)

    def trainer_of(split: Split) -> PreferenceTrainer:
        comparing.drop_reference(model)
        return PreferenceTrainer(
            args=_settings(run, data, split), **comparing.options(run, model, encoder, data, collate)
        )

    trained = fit(run, model, trainer_of, lambda size: collate([longest] * size))
    comparing.drop_reference(model)
    return trained


@dataclass(frozen=True)
class PairCollator:
    """Rows of preferences -> a batch as DPOTrainer wants it: chosen conversations in its first half, then rejected ones
    (input_ids, attention_mask, completion_mask, each 2 rows x length), and what the processor makes of the images."""

    encoder: Collator

    def __call__(self, examples: list[Example]) -> Batch:
        """Encode a batch.

        Raises:
            TrainingError: InvalidDataset, as the encoder's.
        """
        batch = self.encoder(comparing.pairs(examples))
        batch["completion_mask"] = comparing.completion_mask(batch)
        del batch["labels"]
        return batch


class PreferenceTrainer(Instrumented, comparing.Comparing, DPOTrainer):
    """The trainer of a run: DPOTrainer on finished batches, instrumented."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        comparing.reference_without_adapters(self.model)

    def count(self, batch: dict[str, Any]) -> tuple[int, int]:
        """Rows and tokens of a batch, which has two sequences of each row."""
        sequences, tokens = super().count(batch)
        return sequences // 2, tokens


def _settings(run: Run, data: Data, split: Split) -> DPOConfig:
    dpo = run.spec.dpo
    assert dpo is not None
    return DPOConfig(
        **comparing.common_arguments(run, data, split),
        beta=dpo.beta,
        loss_type=[dpo.loss_type],
        label_smoothing=dpo.label_smoothing,
    )
