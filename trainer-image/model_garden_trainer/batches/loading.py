"""Batches as a data loader's worker makes them, with the error of a row where there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from model_garden_trainer.errors import TrainingError


class Batches:
    """A collator for a data set of row numbers, ``{"row": N}``: the batch of those rows, or the error of one of them.

    It reads and encodes rows in the workers of the data loader. Torch would rebuild a worker's exception in the main
    process from its class and text alone; ``raise_if_failed`` raises it whole. It holds no tokenizer that the Trainer
    sees, and would save with every checkpoint.
    """

    def __init__(self, rows: Any, collate: Callable[[list[Any]], Any]) -> None:
        self._rows, self._collate = rows, collate

    def __call__(self, numbers: list[dict[str, int]]) -> Any:
        """A batch, or ``error``: the reason and the message."""
        try:
            return self._collate([self._rows[number["row"]] for number in numbers])
        except TrainingError as error:
            return {"error": (error.reason, str(error))}


def raise_if_failed(batch: dict[str, Any]) -> dict[str, Any]:
    """``batch``, unless it holds the error of a worker.

    Raises:
        TrainingError: the error of the collator.
    """
    if "error" in batch:
        raise TrainingError(*batch["error"])
    return batch
