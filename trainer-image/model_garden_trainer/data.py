"""The rows of a run: opened, split into training and validation, and measured before anything is trained."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from model_garden.contract.spec import TrainingJobSpec
from model_garden.contract.status import DatasetStatus, TokenLengths
from model_garden_trainer.datasets import DatasetError, Example, open_examples
from model_garden_trainer.encoding import Encoder
from model_garden_trainer.errors import TrainingError

LISTED = 20


class Rows(Protocol):
    """Examples by number, read when asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Example: ...


@dataclass(frozen=True)
class Subset:
    """Some rows of a data set, in a given order."""

    rows: Rows
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        try:
            return self.rows[self.indices[index]]
        except DatasetError as error:
            raise TrainingError("InvalidDataset", str(error)) from error


@dataclass(frozen=True)
class Data:
    """What is trained on and what is evaluated on (empty: nothing is)."""

    training: Subset
    validation: Subset


def open_data(spec: TrainingJobSpec, seed: int) -> Data:
    """Open the data set and hold the validation rows apart, the same ones for the same seed.

    Raises:
        TrainingError: InvalidDataset, with a line for each problem.
    """
    rows = _open(spec.dataset_path, spec)
    everything = list(range(len(rows)))
    if spec.validation_dataset_path:
        other = _open(spec.validation_dataset_path, spec)
        return Data(Subset(rows, everything), Subset(other, range(len(other))))
    if not spec.validation_fraction:
        return Data(Subset(rows, everything), Subset(rows, ()))
    held_out = max(1, round(len(rows) * spec.validation_fraction))
    if held_out >= len(rows):
        raise TrainingError(
            "InvalidDataset",
            f"spec.validationFraction: {spec.validation_fraction} of {len(rows)} row(s) leaves none to train on; "
            "add rows or lower it",
        )
    random.Random(seed).shuffle(everything)
    return Data(Subset(rows, sorted(everything[held_out:])), Subset(rows, sorted(everything[:held_out])))


def measure(data: Data, encoder: Encoder, max_length: int) -> DatasetStatus:
    """Encode every row once: all checks of the encoder, and lengths, which nothing is ever cut to.

    Raises:
        TrainingError: InvalidDataset, naming the rows that are longer than ``max_length``.
    """
    lengths: list[int] = []
    images = 0
    too_long: list[str] = []
    for rows in (data.training, data.validation):
        for index in range(len(rows)):
            example = rows[index]
            length = int(encoder([example])["attention_mask"].sum())
            lengths.append(length)
            images += len(example.images)
            if length > max_length:
                too_long.append(f"{example.origin}: {length} tokens")
    longest = max(lengths)
    if too_long:
        listed = "\n".join(too_long[:LISTED]) + (f"\n… and {len(too_long) - LISTED} more" if too_long[LISTED:] else "")
        advice = ", shorten them, or lower imageOptions.maxPixels" if images else " or shorten them"
        raise TrainingError(
            "InvalidDataset",
            f"spec.hyperparameters.maxSeqLength: {len(too_long)} row(s) are longer than {max_length} tokens, and "
            f"nothing is cut off; set it to {longest} or more{advice}:\n{listed}",
        )
    ordered = sorted(lengths)
    return DatasetStatus(
        rows=len(data.training),
        validation_rows=len(data.validation) or None,
        images=images or None,
        tokens=TokenLengths(
            median=ordered[len(ordered) // 2],
            p95=ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))],
            maximum=longest,
        ),
        measured_by="trainer",
    )


def digest(path: str) -> str:
    """A digest of a data set's files: names, sizes, beginnings and ends. Pictures beside them are not read."""
    found = Path(path)
    files = sorted(file for file in found.rglob("*") if file.is_file()) if found.is_dir() else [found]
    result = hashlib.sha256()
    for file in files:
        if not file.is_file():
            continue
        size = file.stat().st_size
        result.update(f"{file.relative_to(found) if found.is_dir() else ''}\0{size}\0".encode())
        with file.open("rb") as content:
            result.update(content.read(2**20))
            content.seek(max(0, size - 2**20))
            result.update(content.read())
    return result.hexdigest()


def _open(path: str, spec: TrainingJobSpec) -> Rows:
    try:
        return open_examples(path, vision=spec.vision, split=spec.dataset_split or "train")
    except DatasetError as error:
        raise TrainingError("InvalidDataset", str(error)) from error
