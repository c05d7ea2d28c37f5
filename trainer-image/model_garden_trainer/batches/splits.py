"""The rows of a run: opened, split into training and validation, and measured before anything is trained."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from model_garden.contract.addresses import HUB_DATASET
from model_garden.contract.names import TERMINATION_LOG
from model_garden.contract.spec import EffectiveSpec
from model_garden.contract.status import DatasetStatus, TokenLengths
from model_garden.contract.trainer_config import TrainerConfig
from model_garden.datasets import (
    CheckReport,
    DatasetError,
    Example,
    Examples,
    TokenCounter,
    UncountableError,
    check_examples,
    open_examples,
    warnings_of,
)
from model_garden.datasets.held_out import all_held_out, hold_out, picked, repeated_rows, shared_file
from model_garden.datasets.rendering import Renderer
from model_garden.datasets.sizes import Bounds
from model_garden_trainer import fetched
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.events import Report, log
from model_garden_trainer.hub_retry import patiently

if TYPE_CHECKING:  # the preflight reads this module too, and has no torch
    from model_garden_trainer.batches.collator import Collator

LISTED = 20
ENCODED = 512
"""Rows that are encoded before training, evenly spread over the data: all of them in most data sets."""


@dataclass(frozen=True)
class Subset:
    """Some rows of a data set, in a given order."""

    rows: Examples
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Example:
        try:
            return self.rows[self.indices[index]]
        except DatasetError as error:
            raise TrainingError("InvalidDataset", str(error)) from error


@dataclass(frozen=True)
class Data:
    """What is trained on and what is evaluated on (empty: nothing is), and the data sets that they are rows of."""

    training: Subset
    validation: Subset
    sources: tuple[Examples, ...]
    bounds: Bounds = (None, None)
    """The area in pixels that images are scaled to."""
    evaluation: Subset | None = None
    """The rows of ``evaluation.datasetPath``, which no figure of the training depends on."""


def open_data(spec: EffectiveSpec, seed: int, warn: Callable[[str], None] = log) -> Data:
    """Open the data sets and hold the validation rows apart, the same ones for the same seed.

    Raises:
        TrainingError: InvalidDataset, with a line for each problem.
    """
    data = _open_trained(spec, seed, warn)
    if spec.evaluation_dataset is None:
        return data
    rows = _open(spec, *spec.evaluation_dataset, warn)
    return replace(data, evaluation=Subset(rows, range(len(rows))))


def _open_trained(spec: EffectiveSpec, seed: int, warn: Callable[[str], None]) -> Data:
    """The rows to train on and those to validate with."""
    bounds = spec.pixel_bounds
    rows, *others = [_open(spec, path, split, warn) for path, split in spec.datasets]
    training, held_out = hold_out(len(rows), spec.validation_fraction, seed)
    if not training:
        raise TrainingError("InvalidDataset", all_held_out(len(rows), spec.validation_fraction))
    if others:
        refuse_trained_files("validationDatasetPath", str(spec.validation_dataset_path), others[0], rows)
        return Data(Subset(rows, training), Subset(others[0], range(len(others[0]))), (rows, others[0]), bounds)
    return Data(Subset(rows, training), Subset(rows, held_out), (rows,), bounds)


def refuse_trained_files(field: str, path: str, rows: Examples, trained: Examples) -> None:
    """See that rows are not in the files that are trained on, since the model would be measured by what it learned.

    Raises:
        TrainingError: InvalidDataset, naming the file.
    """
    if problem := shared_file(field, path, rows, trained):
        raise TrainingError("InvalidDataset", problem)


def fetch_images(config: TrainerConfig, report: Report, warn: Callable[[str], None] = log) -> None:
    """Fetch the images that rows name by their addresses, if the job has ``fetchPictures``.

    Raises:
        TrainingError: InvalidDataset or OutputNotWritable.
    """
    spec = config.spec

    def addresses() -> set[str]:
        return {one for path, split in spec.all_datasets for one in _open(spec, path, split, warn).addresses()}

    if spec.fetch_pictures:
        fetched.fetch_images(config, addresses, report)


def measure(
    data: Data, encoder: Collator, folder: Path, max_length: int, asked: CheckReport | None = None
) -> tuple[DatasetStatus, Example, list[str]]:
    """Check every row and measure its length (no row is truncated), then encode rows as training will.

    Rows are counted without torch, by all cores; a model whose files do not allow that is measured by its own
    processor, row by row. Up to ``ENCODED`` rows are encoded here and the others when their batch is made: the
    encoder asserts of each that answers, and nothing else, carry loss. ``asked`` is the report of ``data.evaluation``.

    Returns:
        What was measured, the longest of the encoded examples, and warnings.

    Raises:
        TrainingError: InvalidDataset, with a line for each problem.
    """
    counter = _counter(encoder, folder)
    reports = check(data, counter, max_length)
    lengths: list[tuple[int, Example]] = []
    for rows in (data.training, data.validation):
        for example in rows if counter is None else _spread(rows):
            lengths.append((int(encoder(list(example.sequences))["attention_mask"].sum(dim=1).max()), example))
    _refuse_longer(lengths, max_length)
    ordered = sorted(length for length, _ in lengths)
    status = described(data, reports, "Trainer")
    if status.tokens is None:
        status.tokens = TokenLengths(
            median=ordered[len(ordered) // 2],
            p95=ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))],
            maximum=ordered[-1],
        )
    return status, max(lengths, key=lambda entry: entry[0])[1], warnings_of(reports) + repeated(data, reports, asked)


def check(data: Data, counter: TokenCounter | None, max_length: int) -> list[CheckReport]:
    """Check every row of each data set, and with ``counter`` its length.

    Raises:
        TrainingError: InvalidDataset, with a line for each problem.
    """
    compared = len(data.validation) > 0 or data.evaluation is not None
    return [_checked(rows, counter, max_length, data.bounds, digests=compared) for rows in data.sources]


def check_rows(rows: Subset, bounds: Bounds) -> CheckReport:
    """Check every row of a data set that is not trained on, whose rows may have any length.

    Raises:
        TrainingError: InvalidDataset, with a line for each problem.
    """
    return _checked(rows.rows, None, None, bounds, digests=True)


def repeated(data: Data, reports: Sequence[CheckReport], asked: CheckReport | None) -> list[str]:
    """A warning for each field whose rows measure the model and are trained on too.

    Args:
        data: the rows.
        reports: those of ``data.sources``.
        asked: that of ``data.evaluation``; None if its rows are not answered.
    """
    if not data.validation.indices and asked is None:
        return []
    trained = picked(reports[0].digests, data.training.indices)
    held_out, field = data.validation, "validationDatasetPath" if len(reports) > 1 else "validationFraction"
    found = [repeated_rows(field, held_out.rows, reports[-1].digests, held_out.indices, trained)]
    if data.evaluation is not None and asked is not None:
        rows = data.evaluation
        found.append(repeated_rows("evaluation.datasetPath", rows.rows, asked.digests, rows.indices, trained))
    return [warning for warning in found if warning]


def described(
    data: Data, reports: Sequence[CheckReport], measured_by: Literal["Preflight", "Trainer"]
) -> DatasetStatus:
    """What was measured, as ``status.dataset`` holds it; lengths are those of the data set trained on."""
    return (
        reports[0]
        .status(measured_by)
        .model_copy(
            update={
                "rows": len(data.training),
                "validation_rows": len(data.validation) or None,
                "images": sum(report.images for report in reports) or None,
            }
        )
    )


def answers(data: Data) -> Iterator[str]:
    """The answers of up to ``ENCODED`` rows that are trained on."""
    for example in _spread(data.training):
        messages = example.messages if example.kind == "chat" else example.messages[-1:]
        for message in messages:
            if message.answers or example.kind != "chat":
                yield message.text


def unlisted_end(data: Data, renderer: Renderer, model: str) -> str | None:
    """A warning where answers end with a token that the model's files do not list as an end; None for any other."""
    if data.training[0].kind != "chat" or (token := renderer.unlisted_end()) is None:
        return None
    return (
        f"answers end with {token}, which generation_config.json of {model} does not list in eos_token_id; set it as a "
        "stop token where the trained model is served, or its answers do not end"
    )


def other_start(data: Data, renderer: Renderer, model: str) -> str | None:
    """A warning where the chat template begins an answer otherwise than it ends the prompt; None where it does not."""
    rows = (
        (row.origin, renderer(example).other_start()) for row in _spread(data.training) for example in row.sequences
    )
    for origin, starts in rows:
        if starts:
            asked, trained = starts
            return (
                f"{origin}: the chat template of {model} ends the prompt of a server with {asked!r}, but the answer is "
                f"trained as {trained!r}, so the model is not trained on what a server asks for; write the reasoning "
                "into the rows or leave it out, or set chatTemplate to one that begins answers as it ends prompts"
            )
    return None


def _spread(rows: Subset) -> Iterator[Example]:
    """Up to about ``ENCODED`` examples, evenly spread over ``rows``."""
    return (rows[index] for index in range(0, len(rows), max(1, len(rows) // ENCODED)))


def _counter(encoder: Collator, folder: Path) -> TokenCounter | None:
    try:
        return TokenCounter.load(
            folder,
            vision=encoder.vision,
            min_pixels=encoder.min_pixels,
            max_pixels=encoder.max_pixels,
            train_on=encoder.train_on,
            template=encoder.template,
        )
    except UncountableError:
        return None


def _checked(
    rows: Examples, counter: TokenCounter | None, max_length: int | None, bounds: Bounds, *, digests: bool
) -> CheckReport:
    report = check_examples(rows, measure=counter, max_length=max_length, bounds=bounds, digests=digests)
    try:
        report.raise_for_problems()
    except DatasetError as error:
        raise TrainingError("InvalidDataset", str(error)) from error
    return report


def _refuse_longer(lengths: list[tuple[int, Example]], max_length: int) -> None:
    longer = [(length, example) for length, example in lengths if length > max_length]
    if longer:
        listed = "; ".join(f"{example.origin} ({length} tokens)" for length, example in longer[:LISTED])
        more = f"; and {len(longer) - LISTED} more" if longer[LISTED:] else ""
        raise TrainingError(
            "InvalidDataset",
            f"{len(longer)} of {len(lengths)} rows are longer than maxSeqLength ({max_length}); rows are never "
            f"truncated: {listed}{more}; raise hyperparameters.maxSeqLength to {max(longer, key=lambda e: e[0])[0]}, "
            "shorten them, or lower imageOptions.maxPixels",
        )


def _root(path: str) -> Path | None:
    """The folder that a data set's files may not leave: in a pod the claim it lies in, elsewhere none.

    What was fetched may not leave the copy of its folder.
    """
    if copy := fetched.mirror(path):
        return copy.folder
    if not Path(TERMINATION_LOG).exists() or path.startswith(HUB_DATASET):
        return None
    inside = os.path.relpath(path)
    return Path.cwd() / inside.split("/")[0]


def _open(spec: EffectiveSpec, path: str, split: str, warn: Callable[[str], None]) -> Examples:
    def open_() -> Examples:
        place, copy = fetched.local(path), fetched.mirror(path)
        return open_examples(
            place,
            vision=spec.vision,
            method=spec.method,
            split=split,
            root=_root(path),
            mirror=copy,
            columns=spec.columns,
            pictures=fetched.pictures(spec),
        )

    try:
        return patiently(open_, path, warn)
    except DatasetError as error:
        raise TrainingError("InvalidDataset", str(error)) from error
