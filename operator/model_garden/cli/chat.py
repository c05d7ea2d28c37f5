"""``chat``: a trained model answers on this machine. The trainer's packages load it, in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from model_garden.cli.local import has_trainer
from model_garden.cli.output import FAILED, CommandError
from model_garden.local.process import COMMAND
from model_garden.services.errors import MissingPackages

RECORD = "training_config.json"
"""What a run writes about itself into its output folder."""
_MODEL_FILES = ("adapter_config.json", "config.json")


def chat(
    name: str,
    *,
    prompt: str | None,
    images: list[str],
    answers: str,
    base_model: str | None,
    max_new_tokens: int,
) -> None:
    """Answer ``prompt``, or the questions of standard input, and exit with the exit code of the process.

    Raises:
        CommandError: there is no such model on this machine.
        MissingPackages: torch is not installed.
    """
    folder = _model_folder(name)
    if not has_trainer():
        raise MissingPackages("chat needs the trainer's packages: pip install 'model-garden[trainer]'")
    request = {
        "folder": str(folder),
        "prompt": prompt,
        "images": images,
        "answers": answers,
        "base_model": base_model,
        "max_new_tokens": max_new_tokens,
    }
    sys.exit(subprocess.run([*COMMAND, "chat", json.dumps(request)], check=False).returncode)


def find_model(name: str) -> Path | None:
    """The folder of a model: a path, a folder in ./models, or the output there of the job of that name."""
    for folder in (Path(name).expanduser(), Path("models") / name, *_outputs_of(name)):
        if any((folder / file).is_file() for file in _MODEL_FILES):
            return folder
    return None


def _model_folder(name: str) -> Path:
    """The folder of a model.

    Raises:
        CommandError: there is none.
    """
    if folder := find_model(name):
        return folder
    raise CommandError(
        f"{name}: neither this folder nor ./models/{name} holds a model. If it is a job of a cluster, download its "
        f"model first: model-garden download {name} && model-garden chat {name}",
        FAILED,
    )


def _outputs_of(job: str) -> Iterator[Path]:
    """The folders in ./models whose record says that ``job`` made them."""
    for record in Path("models").glob(f"*/{RECORD}"):
        try:
            if json.loads(record.read_text(encoding="utf-8")).get("name") == job:
                yield record.parent
        except (OSError, ValueError, AttributeError):
            continue
