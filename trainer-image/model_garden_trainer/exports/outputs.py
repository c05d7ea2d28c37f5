"""What a run leaves: adapter, processor files and chat template at the root of ``outputDir``, what ``exports`` makes of
them, ``training_config.json`` and a model card. Each is read back by a fresh process before it counts as made."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from model_garden.contract.names import CONFIG_ENV
from model_garden.contract.progress import parse_event
from model_garden.contract.status import OutputStatus
from model_garden.contract.trainer_config import TrainerConfig
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.evaluation.answered import FILE as EVALUATION
from model_garden_trainer.events import Report, log

RECORD = "training_config.json"
SAMPLES = "samples.json"
CHECKPOINTS = "checkpoints"
TRACKERS = "trackers"
"""The states of trackers, and the files of those without a server."""
STAYS = (f"{CHECKPOINTS}/*", f"{TRACKERS}/*", EVALUATION, "*.partial")
"""Patterns, as of ``hf upload --exclude``, of files that are not uploaded. The answers of an evaluation are among them:
whoever reads the model would read all held-out rows."""
_PACKAGES = ("model-garden", "torch", "transformers", "peft", "accelerate", "trl", "unsloth", "bitsandbytes")


@dataclass(frozen=True)
class Exports:
    """What a run exported beside its adapter: the folder of a merged model, a GGUF file, and of a vision model the GGUF
    file of its image encoder."""

    merged: Path | None = None
    gguf: Path | None = None
    projector: Path | None = None


def prepare_folder(output: Path, given: str, base_model: str = "") -> None:
    """Make the output folder, and see before training that it can be written to and is not the base model's own.

    Raises:
        TrainingError: OutputNotWritable.
    """
    base = Path(base_model).expanduser()
    if base_model and base.exists() and output.resolve() == base.resolve():
        raise TrainingError(
            "OutputNotWritable",
            f"spec.outputDir: {given or output} is the folder of spec.baseModel, which training would overwrite; "
            "choose another folder",
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output) as file:
            file.write(b"x")
    except OSError as error:
        raise TrainingError(
            "OutputNotWritable",
            f"spec.outputDir: {given} cannot be written to ({error.strerror or error}); "
            "choose a folder that this user may write, such as ./models/NAME",
        ) from error


def tensor_dtypes(folder: Path) -> set[str]:
    """The dtypes of all tensors in a folder's safetensors files, as their headers name them (``BF16``, ``F32``).

    Format: 8 bytes little-endian length, then that many bytes of JSON (github.com/huggingface/safetensors).
    """
    found = set()
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        found |= {entry["dtype"] for name, entry in header.items() if name != "__metadata__"}
    return found


def verify(config: TrainerConfig, base: Path, output: Path, made: Exports, report: Report) -> dict[str, Any]:
    """Load each output in a fresh process and let it answer one row; what that process found (see ``verify.verify``).

    Raises:
        TrainingError: ExportFailed, with the cause that the process names.
    """
    places = {"base": base, "output": output, **vars(made)}
    request = json.dumps({key: str(path) for key, path in places.items() if path})
    environment = os.environ | {CONFIG_ENV: config.model_dump_json(by_alias=True, exclude_none=True)}
    command = [sys.executable, "-m", "model_garden_trainer", "verify", request]
    result = ""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=said, text=True) as process:
            assert process.stdout
            for line in process.stdout:
                if event := parse_event(line):
                    report(event)
                elif line.strip():
                    result = line
        said.seek(0)
        words = said.read()
    found = _printed(result)
    if process.returncode or not isinstance(found, dict):
        log(words)
        cause = found if isinstance(found, str) else _how_it_ended(process.returncode, words)
        raise TrainingError(
            "ExportFailed", f"{output}: the saved model did not pass its check and the adapter is kept: {cause}"
        )
    return found


def _printed(line: str) -> Any:
    """What the process printed last: a mapping with its result, or a text with the cause of its failure; else None."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def _how_it_ended(code: int, words: str) -> str:
    """The cause where the process could not name it: the signal that ended it, else the last line of its log."""
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return words.strip().rpartition("\n")[2] or f"its process ended with exit code {code}"


def read_record(output: Path) -> dict[str, Any] | None:
    """What the finished run in ``output`` wrote about itself, None where none finished."""
    try:
        record = json.loads((output / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "output" in record else None


def size_of(output: Path) -> int:
    """Bytes of the output, its checkpoints and trackers aside."""
    inside = (path for path in output.rglob("*") if path.is_file())
    return sum(
        path.stat().st_size for path in inside if path.relative_to(output).parts[0] not in (CHECKPOINTS, TRACKERS)
    )


def goes_along(path: Path) -> bool:
    """Whether a file of the output, by its relative path, is uploaded; the record is, as text and last."""
    name = path.as_posix()
    return name != RECORD and not any(fnmatchcase(name, pattern) for pattern in STAYS)


def versions() -> dict[str, str]:
    """The installed versions of what shapes a run."""
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def relative(path: Path) -> str:
    """``path`` relative to the workspace, ``./models/x``; absolute outside the workspace."""
    try:
        return "./" + path.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path)


@contextlib.contextmanager
def exporting(what: str) -> Any:
    """Any failure within is an ExportFailed: ``what``, and why."""
    try:
        yield
    except TrainingError:
        raise
    except Exception as error:
        raise TrainingError("ExportFailed", f"{what}: {str(error) or type(error).__name__}") from error


def status(output: Path, made: Exports, model_class: str, of_training: Mapping[str, Any]) -> OutputStatus:
    """The output as the status shows it, not verified yet. Without an adapter, its folder holds the whole model.

    ``of_training`` are the status' fields about the training.
    """
    adapter = output / "adapter_config.json"
    adapted = adapter.is_file()
    merged = made.merged or (None if adapted else output)
    return OutputStatus(
        path=relative(output),
        adapter_path=relative(output) if adapted else None,
        lora_rank=_rank(json.loads(adapter.read_text(encoding="utf-8"))) if adapted else None,
        merged_path=relative(merged) if merged else None,
        gguf_path=relative(made.gguf) if made.gguf else None,
        model_class=model_class,
        size_bytes=size_of(output),
        verified=False,
        **of_training,
    )


def _rank(config: Mapping[str, Any]) -> int:
    """The largest rank of an adapter, by peft's config of it."""
    ranks: list[int] = [config["r"], *(config.get("rank_pattern") or {}).values()]
    return max(ranks)
