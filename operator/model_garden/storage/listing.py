"""What a workspace holds: reads ``./data`` and ``./models``, hidden files left out, no link followed out of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model_garden.contract.status import OutputStatus
from model_garden.datasets.files import SUFFIXES
from model_garden.storage.interface import ModelKind, StoredDataset, StoredModel
from model_garden.storage.paths import DATA, MODELS

RECORD = "training_config.json"
"""What a finished run wrote about itself; docs/reference/output-folder.md."""
CHECKPOINTS = "checkpoints"
_OF_TRAINING = {"trained_steps", "final_loss", "best_step", "best_eval_loss", "verified"}
_UNFINISHED = (".partial",)
_MERGING = "merging-"


@dataclass(frozen=True)
class Found:
    """A regular file: its path relative to the folder that was read, its size in bytes, and when it last changed."""

    path: str
    size: int
    modified: float


def files_below(folder: Path, root: Path) -> Iterator[Found]:
    """The files of a folder at any depth by name; hidden ones and links that lead out of ``root`` are left out."""
    for entry in _visible(folder, root):
        if entry.is_dir(follow_symlinks=False):
            for found in files_below(Path(entry.path), root):
                yield Found(f"{entry.name}/{found.path}", found.size, found.modified)
        elif entry.is_file():
            status = entry.stat()
            yield Found(entry.name, status.st_size, status.st_mtime)


def files_of_entry(entry: Path, root: Path) -> list[Found]:
    """The files of a folder in ``root`` (see ``files_below``), or a file in it, whose path is then its name."""
    if entry.is_dir():
        return list(files_below(entry, root))
    status = entry.stat()
    return [Found(entry.name, status.st_size, status.st_mtime)]


def is_inside(path: str | Path, root: Path) -> bool:
    """Whether a path is inside ``root`` once all links are followed."""
    real = os.path.realpath(root)
    return os.path.commonpath([os.path.realpath(path), real]) == real


def list_datasets(workspace: Path) -> list[StoredDataset]:
    """The data files and the folders with data files in ``./data``, by name."""
    root = workspace / DATA
    listed = (stored_dataset(name, files, folder=(root / name).is_dir()) for name, files in _by_name(root))
    return [one for one in listed if one is not None]


def list_models(workspace: Path) -> list[StoredModel]:
    """The folders in ``./models``, by name."""
    root = workspace / MODELS
    return [_model(root / name, files) for name, files in _by_name(root) if (root / name).is_dir()]


def model_files(files: Iterable[Found]) -> list[Found]:
    """The files of a model that are of use elsewhere: neither checkpoints nor what an interrupted run left."""
    return [one for one in files if not _is_of_training(one.path)]


def _is_of_training(path: str) -> bool:
    first = path.split("/")[0]
    return first == CHECKPOINTS or first.startswith(_MERGING) or path.endswith(_UNFINISHED)


def _by_name(root: Path) -> Iterator[tuple[str, list[Found]]]:
    """Each entry of a folder with its files."""
    for entry in _visible(root, root):
        if not entry.is_dir() and not entry.is_file():
            continue
        try:
            yield entry.name, files_of_entry(Path(entry.path), root)
        except PermissionError:  # no one's data set: lost+found, which a new disk has
            continue


def _visible(folder: Path, root: Path) -> list[os.DirEntry[str]]:
    """What a folder lists, by name; nothing where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            found = [one for one in entries if not one.name.startswith(".")]
    except FileNotFoundError:
        return []
    inside = (one for one in found if not one.is_symlink() or is_inside(one.path, root))
    return sorted((one for one in inside if _is_unicode(one.name)), key=lambda one: one.name)


def _is_unicode(name: str) -> bool:
    """Whether a name can be written in JSON; others cannot be named in a job either."""
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def stored_dataset(name: str, files: list[Found], *, folder: bool = True) -> StoredDataset | None:
    """The data set of an entry of ``./data``, a folder or a file; None where no file holds rows."""
    base = f"./{DATA}/{name}" if folder else f"./{DATA}"
    paths = [f"{base}/{one.path}" for one in files]
    rows = [path for path in paths if path.lower().endswith(SUFFIXES)]
    if not rows:
        return None
    return StoredDataset(
        name=name,
        path=rows[0] if len(rows) == 1 else base,
        data_files=rows,
        files=len(files),
        size=sum(one.size for one in files),
        modified=_latest(files),
    )


def _model(folder: Path, files: list[Found]) -> StoredModel:
    useful = model_files(files)
    return StoredModel(
        name=folder.name,
        path=f"./{MODELS}/{folder.name}",
        kinds=_kinds({one.path for one in useful}),
        files=len(useful),
        size=sum(one.size for one in useful),
        modified=_latest(files) if files else datetime.fromtimestamp(folder.stat().st_mtime, UTC),
        **_facts(folder),
    )


def _facts(folder: Path) -> dict[str, Any]:
    """What the run wrote about its model, or what the adapter says; nothing where neither can be read."""
    record = _json(folder / RECORD)
    spec = _object(record.get("spec"))
    base_model = spec.get("baseModel") or _json(folder / "adapter_config.json").get("base_model_name_or_path")
    facts = {"base_model": base_model, "dataset_path": spec.get("datasetPath")}
    found: dict[str, Any] = {name: fact for name, fact in facts.items() if isinstance(fact, str)}
    with suppress(ValidationError):
        output = OutputStatus.model_validate(record.get("output"))
        found |= output.model_dump(include=_OF_TRAINING)
    return found


def _kinds(paths: set[str]) -> list[ModelKind]:
    kinds: list[ModelKind] = []
    if "adapter_config.json" in paths and paths & {"adapter_model.safetensors", "adapter_model.bin"}:
        kinds.append("adapter")
    if "merged/config.json" in paths:
        kinds.append("merged")
    if any(path.endswith(".gguf") for path in paths):
        kinds.append("gguf")
    if "config.json" in paths and any(path.endswith((".safetensors", ".bin")) for path in paths):
        kinds.append("model")
    return kinds


def _latest(files: list[Found]) -> datetime:
    return datetime.fromtimestamp(max(one.modified for one in files), UTC)


def _json(path: Path) -> dict[str, Any]:
    """The object in a file; empty where there is none that can be read, since a listing shows what is known."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return _object(value)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
