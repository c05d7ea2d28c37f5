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
from model_garden_trainer.engine.context import Run
from model_garden_trainer.engine.instrumented import Instrumented
from model_garden_trainer.methods import comparing


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


METHOD = comparing.Method(lambda encoder, _: PairCollator(encoder), PreferenceTrainer, _settings)
