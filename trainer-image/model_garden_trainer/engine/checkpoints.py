"""Checkpoints that can be trusted: complete or not there.

transformers' Trainer writes ``checkpoints/checkpoint-N``; ``seal`` then lists every file with its size and digest in
``complete.json``, written last. ``newest`` resumes only from a sealed folder whose files still match, so that one that
was cut short at any file is passed over for the one before.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_garden_trainer.atomic_file import write_atomically
from model_garden_trainer.events import log

SEAL = "complete.json"
PREFIX = "checkpoint-"


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: its folder, its step, the fingerprint of its run, and the run's notes."""

    folder: Path
    step: int
    fingerprint: str
    notes: dict[str, Any]


def seal(folder: Path, fingerprint: str, notes: dict[str, Any]) -> None:
    """Declare ``folder`` complete: all its files on disk, then the seal, in one atomic rename."""
    files = {}
    for path in _files(folder):
        with path.open("rb") as file:
            files[path.relative_to(folder).as_posix()] = [
                path.stat().st_size,
                hashlib.file_digest(file, "sha256").hexdigest(),
            ]
            os.fsync(file.fileno())
    content = {"step": _step(folder), "fingerprint": fingerprint, "files": files, "notes": notes}
    write_atomically(folder / SEAL, json.dumps(content, indent=1))


def newest(root: Path) -> Checkpoint | None:
    """The complete checkpoint of the highest step below ``root``; a broken one is named in the log and passed over."""
    for folder in reversed(_folders(root)):
        problem = _problem(folder)
        if problem is None:
            content = json.loads((folder / SEAL).read_text())
            return Checkpoint(folder, content["step"], content["fingerprint"], content["notes"])
        log(f"{folder}: training does not resume from this checkpoint: {problem}")
    return None


def of_step(root: Path, step: int) -> Path:
    """The folder of a step's checkpoint. transformers notes absolute paths, which are wrong after a move."""
    return root / f"{PREFIX}{step}"


def exist(root: Path) -> bool:
    """Whether an earlier attempt has sealed a checkpoint below ``root``."""
    return any((folder / SEAL).exists() for folder in _folders(root))


def prune(root: Path, keep: int, best_step: int | None) -> None:
    """Delete all but the newest ``keep`` complete checkpoints and the one of ``best_step``; what is incomplete goes
    too."""
    folders = _folders(root)
    complete = [folder for folder in folders if (folder / SEAL).exists()]
    kept = set(complete[-keep:]) | ({of_step(root, best_step)} if best_step else set())
    for folder in folders:
        if folder not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def _problem(folder: Path) -> str | None:
    """What keeps ``folder`` from being resumed, None if nothing does."""
    try:
        files = json.loads((folder / SEAL).read_text())["files"]
    except (OSError, ValueError, KeyError):
        return f"{SEAL} is missing or unreadable, so the checkpoint is incomplete"
    for name, (size, digest) in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                return f"{name} was changed after it was written"
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL)


def _folders(root: Path) -> list[Path]:
    """Checkpoint folders below ``root``, by step."""
    found = [path for path in root.glob(f"{PREFIX}*") if path.is_dir() and path.name[len(PREFIX) :].isdigit()]
    return sorted(found, key=_step)


def _step(folder: Path) -> int:
    return int(folder.name[len(PREFIX) :])
