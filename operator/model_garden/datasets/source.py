"""Opens the rows of ``datasetPath``: a file, a folder of files, or a data set of the Hub."""

from __future__ import annotations

import re
from pathlib import Path

from model_garden.contract.addresses import HUB_DATASET
from model_garden.datasets.errors import DatasetError, RowError, shown
from model_garden.datasets.files import SUFFIXES, open_file
from model_garden.datasets.files.arrow_file import ArrowRows, quietly
from model_garden.datasets.files.rows import Rows
from model_garden.datasets.locate import Locator

_SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test", "eval": "test"} | dict.fromkeys(
    ("validation", "valid", "val", "dev"), "validation"
)
"""Words in the name of a file that name its split, as on the Hub."""


def open_source(path: str | Path, split: str, root: Path | None) -> list[Rows]:
    """The rows of every file of ``path``, in the order of the file names.

    Args:
        path: a file, a folder (its data files at any depth, hidden ones skipped) or ``hf://datasets/ORG/NAME``.
        split: the split; a single file has only ``train``.
        root: the folder in which ``path`` must be, with symbolic links resolved; None allows any path.

    Raises:
        DatasetError: ``path`` does not exist or cannot be read.
    """
    if str(path).startswith(HUB_DATASET):
        return [_open_hub(str(path), split)]
    path = Path(path)
    _require_inside(path, root)
    if path.is_dir():
        files = _files_of_split(path, split)
        for file in files:
            _require_inside(file, root)
        return [open_file(file) for file in files]
    if not path.exists():
        raise DatasetError([f"{path}: no such file or folder; relative paths start from {Path.cwd()}"])
    if not path.is_file():
        raise DatasetError([f"{path}: is not a regular file; give a file, a folder or {HUB_DATASET}ORG/NAME"])
    if split != "train":
        raise DatasetError(
            [
                f"{path}: a single file has no splits, so the split {split!r} cannot be read; use a folder, or remove "
                "datasetSplit. To evaluate on a part of the file, set validationFraction"
            ]
        )
    return [open_file(path)]


def _require_inside(path: Path, root: Path | None) -> None:
    try:
        Locator(None, root).require_inside(path, "the data set")
    except RowError as error:
        raise DatasetError([str(error)]) from None


def _files_of_split(folder: Path, split: str) -> list[Path]:
    """The data files of ``split`` in a folder: all files, or if names contain a split, those whose names contain it."""
    relative = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    files = [
        path
        for path in relative
        if path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in path.parts)
    ]
    if not files:
        raise DatasetError([f"{folder}: has no data file; accepted: {', '.join(SUFFIXES)}"])
    named = {path: _split_of(path) for path in files}
    if not any(named.values()):
        if split != "train":
            raise DatasetError(
                [f"{folder}: no file name contains the split {split}; rename a file, for example to {split}.jsonl"]
            )
        return [folder / path for path in files]
    unnamed = [str(path) for path, name in named.items() if name is None]
    if unnamed:
        raise DatasetError(
            [
                f"{folder}: {', '.join(unnamed[:5])} have no split in their names, and other files do; add train or "
                "test to each name"
            ]
        )
    wanted = _SPLITS.get(split, split)
    chosen = [folder / path for path, name in named.items() if name == wanted]
    if not chosen:
        there = ", ".join(sorted({name for name in named.values() if name}))
        raise DatasetError([f"{folder}: has no split {split!r}; its splits: {there}"])
    return chosen


def _split_of(path: Path) -> str | None:
    """The split in the name of a file or its folders: ``train`` for ``data/train-00000-of-00002.parquet``."""
    for part in reversed((*path.parts[:-1], path.stem)):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in _SPLITS:
                return _SPLITS[word]
    return None


def _open_hub(path: str, split: str) -> Rows:
    """A data set of the Hub, ``hf://datasets/ORG/NAME`` or ``…/ORG/NAME/CONFIG``, through the ``datasets`` library."""
    parts = [part for part in path.removeprefix(HUB_DATASET).split("/") if part]
    if not 1 <= len(parts) <= 3:
        raise DatasetError(
            [
                f"{path}: write it as {HUB_DATASET}ORG/NAME, or {HUB_DATASET}ORG/NAME/CONFIG for one of its "
                "configurations"
            ]
        )
    name, config = "/".join(parts[:2]), parts[2] if len(parts) == 3 else None
    if Path(name).exists():  # the library would read it instead of the Hub's
        raise DatasetError(
            [
                f"{path}: a local ./{name} has the same name; use datasetPath: ./{name} if you mean that one, else "
                "rename it"
            ]
        )
    try:
        dataset = quietly(lambda library: library.load_dataset(name, config, split=split))
    except Exception as error:  # the library and its network clients raise from a dozen unrelated classes
        raise DatasetError([f"{path} split {split}: {_hub_reason(error)}"]) from error
    return ArrowRows(dataset, path, None)


def _hub_reason(error: Exception) -> str:
    from datasets.exceptions import DatasetNotFoundError, DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    reason = shown(str(error).strip().split("\n")[0], 300)
    if isinstance(error, DatasetNotFoundError):
        return f"not found: {reason}; check the name, and hubTokenSecret for a private or gated data set"
    if isinstance(error, HfHubHTTPError):
        return f"the Hub answered: {reason}; check the name, and hubTokenSecret for a private or gated data set"
    if isinstance(error, (OSError, TimeoutError)):
        return (
            f"the Hub cannot be reached and the cache does not hold it: {reason}; "
            "check the network, or copy the data to the data claim and give its path"
        )
    if isinstance(error, (DatasetsError, ValueError)):
        return f"cannot be loaded: {reason}; check its configurations and splits on the Hub"
    return f"cannot be loaded: {type(error).__name__}: {reason}"
