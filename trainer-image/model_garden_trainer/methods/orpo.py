"""Odds ratio preference optimization (arXiv 2403.07691): TRL's ORPOTrainer, its loss and its metrics, on our batches.

There is no reference. The loss of the chosen answer counts its prompt too, as TRL computes it, but for the tokens of
images. TRL has this trainer among its experimental ones. Its forward pass takes no images, so the one here is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from model_garden.datasets import Example
from model_garden_trainer.batches.collator import IGNORED, Batch, Collator
from model_garden_trainer.batches.splits import Data
from model_garden_trainer.engine.batch_size import Split
from model_garden_trainer.engine.context import Run
from model_garden_trainer.engine.instrumented import Instrumented
from model_garden_trainer.methods import comparing


@dataclass(frozen=True)
class OddsCollator:
    """Rows of preferences -> a batch: chosen conversations in its first half, then rejected ones (input_ids,
    attention_mask, labels, read_labels, each 2 rows x length), and what the processor makes of the images.

    ``labels`` are the tokens of answers; ``read_labels`` are all tokens of a conversation but those of images.
    """

    encoder: Collator

    def __call__(self, examples: list[Example]) -> Batch:
        """Encode a batch.

        Raises:
            TrainingError: InvalidDataset, as the encoder's.
        """
        batch = self.encoder(comparing.pairs(examples))
        ids = batch["input_ids"]
        read = batch["attention_mask"].bool() & ~torch.isin(ids, self.encoder.picture_tokens)
        return batch | {"read_labels": ids.masked_fill(~read, IGNORED)}


class OddsTrainer(Instrumented, comparing.Comparing, ORPOTrainer):
    """The trainer of a run: ORPOTrainer on finished batches, instrumented."""

    def __init__(self, *, train_dataset: Dataset, eval_dataset: Dataset | None, **options: Any) -> None:
        evaluated = None if eval_dataset is None else _Untouched(eval_dataset.data)
        super().__init__(train_dataset=_Untouched(train_dataset.data), eval_dataset=evaluated, **options)
        self.use_dpo_data_collator = True  # batches are finished, as those of TRL's own collator

    @property
    def _metrics(self) -> dict[str, dict[str, list[float]]]:
        """The figures of training and of an evaluation, under the name that TRL's other trainers have for them."""
        found: dict[str, dict[str, list[float]]] = self._stored_metrics
        return found

    def count(self, batch: dict[str, Any]) -> tuple[int, int]:
        """Rows and tokens of a batch, which has two sequences of each row."""
        sequences, tokens = super().count(batch)
        return sequences // 2, tokens

    def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, ...]:
        """One forward pass for both answers of each row.

        Returns:
            The mean log probability of a token of each chosen and of each rejected answer (rows), the logits of both
            (rows x length x vocabulary), and the loss of the chosen conversations.
        """
        inputs = {name: value for name, value in batch.items() if name not in ("labels", "read_labels")}
        logits = model(**inputs, use_cache=False).logits
        chosen, rejected = logits.chunk(2)
        loss = torch.nn.functional.cross_entropy(
            chosen[:, :-1].flatten(0, 1), batch["read_labels"].chunk(2)[0][:, 1:].flatten(), ignore_index=IGNORED
        )
        likely = self.get_batch_logps(logits, batch["labels"], average_log_prob=True)
        return (*likely.chunk(2), chosen[:, :-1], rejected[:, :-1], loss)


class _Untouched(Dataset):
    """Row numbers on which TRL's preparation of rows has no effect: the collator renders, masks and batches them."""

    def map(self, *_: Any, **__: Any) -> _Untouched:
        """The same rows."""
        return self


def _settings(run: Run, data: Data, split: Split) -> ORPOConfig:
    orpo = run.spec.orpo
    assert orpo is not None
    common = comparing.common_arguments(run, data, split) | {"max_length": run.h.max_seq_length}
    return ORPOConfig(**common, beta=orpo.beta, padding_value=0)  # which pads nothing here


METHOD = comparing.Method(lambda encoder, _: OddsCollator(encoder), OddsTrainer, _settings)
