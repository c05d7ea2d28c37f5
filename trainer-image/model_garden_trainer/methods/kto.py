"""Kahneman-Tversky optimization (arXiv 2402.01306): TRL's KTOTrainer, its loss and its metrics, on our batches.

The reference is the base model: the same model with its adapters switched off. The loss compares an answer with those
of other rows: each prompt of a batch is also read with the answer of the row before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from trl import KTOConfig, KTOTrainer

from model_garden.datasets import Example
from model_garden_trainer.batches.collator import IMAGE_MASK, Batch, Collator
from model_garden_trainer.batches.splits import Data
from model_garden_trainer.engine.batch_size import Split
from model_garden_trainer.engine.context import Run
from model_garden_trainer.engine.instrumented import Instrumented
from model_garden_trainer.methods import comparing

_OF_TOKENS = ("input_ids", "attention_mask", "completion_mask", "token_type_ids", "mm_token_type_ids")


@dataclass(frozen=True)
class LabelCollator:
    """Rows with labels -> a batch as KTOTrainer wants it: input_ids, attention_mask, completion_mask (each rows x
    length), the same of mismatched rows with the prefix KL_, label (rows), and what the processor makes of images.

    Args:
        encoder: renders and masks conversations.
        others: rows whose answers a batch of one row can be compared with.
    """

    encoder: Collator
    others: tuple[Example, ...]

    def __call__(self, examples: list[Example]) -> Batch:
        """Encode a batch.

        Raises:
            TrainingError: InvalidDataset, as the encoder's.
        """
        batch, other = self._encoded(examples), self._encoded(mismatched(examples, self.others))
        batch |= {f"KL_{key}": other[key] for key in _OF_TOKENS if key in other}
        if IMAGE_MASK in batch:
            batch[IMAGE_MASK] = _of_both(batch[IMAGE_MASK], other[IMAGE_MASK])
        return batch | {"label": torch.tensor([bool(example.label) for example in examples])}

    def _encoded(self, examples: list[Example]) -> Batch:
        batch = self.encoder(examples)
        batch["completion_mask"] = comparing.completion_mask(batch)
        del batch["labels"]
        return batch


def _of_both(mask: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Which token sees which image (rows x length x images x tiles), in the rows and in the mismatched rows.

    TRL gives the model one mask for both. They have the same prompts and images, so the masks differ only after the
    prompts; the model takes a mask that is longer than its tokens.
    """
    longest = max(mask.shape[1], other.shape[1])
    padded = [torch.nn.functional.pad(one, (0, 0, 0, 0, 0, longest - one.shape[1])) for one in (mask, other)]
    return torch.maximum(*padded)


def mismatched(examples: list[Example], others: tuple[Example, ...]) -> list[Example]:
    """Each row with the answer of the row before it, and the first with that of the last, as TRL pairs them.

    The only row of a batch gets the answer of another row of the data: with its own, it would be compared with itself.
    """
    before = [examples[-1], *examples[:-1]]
    if len(examples) == 1:
        before = [other for other in others if other.origin != examples[0].origin][:1] or before
    return [
        replace(example, messages=(*example.messages[:-1], other.messages[-1]))
        for example, other in zip(examples, before, strict=True)
    ]


class LabelTrainer(Instrumented, comparing.Comparing, KTOTrainer):
    """The trainer of a run: KTOTrainer on finished batches, instrumented."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        comparing.reference_without_adapters(self.model)
        self.args.train_sampling_strategy = "random"  # TRL pairs rows before it knows batches; the collator does after


def _settings(run: Run, data: Data, split: Split) -> KTOConfig:
    kto = run.spec.kto
    assert kto is not None
    return KTOConfig(
        **comparing.common_arguments(run, data, split),
        beta=kto.beta,
        loss_type=kto.loss_type,
        desirable_weight=kto.desirable_weight,
        undesirable_weight=kto.undesirable_weight,
    )


def _collator(encoder: Collator, data: Data) -> LabelCollator:
    return LabelCollator(encoder, tuple(data.training[row] for row in range(min(2, len(data.training)))))


METHOD = comparing.Method(_collator, LabelTrainer, _settings)
