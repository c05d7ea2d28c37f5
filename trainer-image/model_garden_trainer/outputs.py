"""What a run leaves: adapter, processor files and chat template at the root of ``outputDir``, a merged model in
``merged``, ``training_config.json`` and a model card. Each is read back by a fresh process before it counts as made."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from model_garden.contract.names import CONFIG_ENV
from model_garden.contract.status import OutputStatus
from model_garden.contract.trainer_config import TrainerConfig
from model_garden_trainer import base_model
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.progress import log

RECORD = "training_config.json"
MERGED = "merged"
CHECKPOINTS = "checkpoints"
_PACKAGES = ("model-garden", "torch", "transformers", "peft", "accelerate", "trl", "unsloth", "bitsandbytes")
_SIXTEEN_BIT = {"BF16", "F16"}
_FLOATS = {"F64", "F32", "BF16", "F16", "F8_E4M3", "F8_E5M2"}


def prepare_folder(output: Path, given: str) -> None:
    """Make the output folder, and see before training that it can be written to.

    Raises:
        TrainingError: OutputNotWritable.
    """
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


def save_adapter(model: Any, base: Path, output: Path, config: TrainerConfig) -> None:
    """Adapter weights and config, and the base model's processor files, at the root of ``output``."""
    with exporting("the adapter could not be written"):
        for settings in model.peft_config.values():
            settings.base_model_name_or_path = config.spec.base_model
            settings.revision = config.spec.base_model_revision
            settings.inference_mode = True
        model.save_pretrained(output, save_embedding_layers=False)
        base_model.carry_processor_files(base, output)


def save_merged(base: Path, output: Path, config: TrainerConfig) -> Path:
    """The adapter of ``output`` merged into a freshly loaded base model, in 16 bit, below ``output``.

    Fresh, because the trained one may be quantized or patched. Afterwards the dtype is read from the files themselves.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    folder = output / MERGED
    auto = AutoModelForImageTextToText if config.spec.vision else AutoModelForCausalLM
    with exporting("the merged model could not be written; the adapter is kept"):
        own = AutoConfig.from_pretrained(base, local_files_only=True).dtype
        dtype = own if own in (torch.float16, torch.bfloat16) else torch.bfloat16
        model = auto.from_pretrained(base, dtype=dtype, local_files_only=True, low_cpu_mem_usage=True)
        merged = PeftModel.from_pretrained(model, output).merge_and_unload(safe_merge=True)
        merged.save_pretrained(folder)
        base_model.carry_processor_files(base, folder)
        wide = sorted({kind for kind in tensor_dtypes(folder) if kind in _FLOATS - _SIXTEEN_BIT})
        if wide:
            raise TrainingError(
                "ExportFailed", f"{folder}: holds {', '.join(wide)} weights though 16 bit was asked for"
            )
    return folder


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


def verify(config: TrainerConfig, base: Path, output: Path, merged: Path | None) -> dict[str, Any]:
    """Load each output in a fresh process and let it answer one row; what that process found.

    Raises:
        TrainingError: ExportFailed, with that process's words.
    """
    request = json.dumps({"base": str(base), "output": str(output), "merged": str(merged) if merged else None})
    environment = os.environ | {CONFIG_ENV: config.model_dump_json(by_alias=True, exclude_none=True)}
    done = subprocess.run(
        [sys.executable, "-m", "model_garden_trainer", "verify", request],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stderr.strip().splitlines()[-20:])
        log(done.stderr)
        raise TrainingError(
            "ExportFailed", f"{output}: the saved model did not pass its check and the adapter is kept: {tail}"
        )
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def read_record(output: Path) -> dict[str, Any] | None:
    """What the finished run in ``output`` wrote about itself, None where none finished."""
    try:
        record = json.loads((output / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "output" in record else None


def size_of(output: Path) -> int:
    """Bytes of the output, its checkpoints aside."""
    inside = (path for path in output.rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in inside if path.relative_to(output).parts[0] != CHECKPOINTS)


def versions() -> dict[str, str]:
    """The installed versions of what shapes a run."""
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def relative(path: Path) -> str:
    """``path`` as people in the workspace write it: ``./models/x``; absolute where it lies elsewhere."""
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
    except MemoryError:
        raise
    except Exception as error:
        raise TrainingError("ExportFailed", f"{what}: {error}") from error


def status(output: Path, merged: Path | None, steps: int, final_loss: float | None) -> OutputStatus:
    """The output as the status shows it, all of it verified."""
    return OutputStatus(
        path=relative(output),
        adapter_path=relative(output),
        merged_path=relative(merged) if merged else None,
        size_bytes=size_of(output),
        trained_steps=steps,
        final_loss=final_loss,
        verified=True,
    )
