"""Why a run ends: each failure names its reason, and the reason decides the exit code of the contract."""

from __future__ import annotations

import json
import os
import traceback
from pathlib import Path

from model_garden.contract.names import CONFIG_ENV
from model_garden.contract.reasons import EXIT_CODES, TrainerReason
from model_garden.contract.status import OutputStatus


class TrainingError(Exception):
    """The job fails.

    Args:
        reason: one of the contract's failure reasons; it decides the exit code.
        message: what is wrong (field, or file and row), the value, the rule and the fix.
    """

    def __init__(self, reason: TrainerReason, message: str) -> None:
        super().__init__(message)
        self.reason: TrainerReason = reason
        self.exit_code = EXIT_CODES[reason]
        self.output: OutputStatus | None = None  # what is kept all the same, as the adapter of a failed export


class Stopped(Exception):
    """The process was asked to stop; ``checkpoint_step`` is where a later attempt resumes, None without a checkpoint.

    With ``by_peer`` it was another process of the job that was asked.
    """

    def __init__(self, checkpoint_step: int | None = None, *, by_peer: bool = False) -> None:
        super().__init__("asked to stop")
        self.checkpoint_step = checkpoint_step
        self.by_peer = by_peer


def record_traceback(error: Exception) -> str:
    """Write the traceback of an unexpected exception to a file, and return the words that name the file.

    The file is ``NAME-traceback.log`` beside the job's output folder, or where that cannot be written, in the working
    directory. The config is read leniently, since it may be the reason for the exception.
    """
    rank = os.environ.get("RANK", "0")
    suffix = "-traceback.log" if rank == "0" else f"-traceback-rank-{rank}.log"
    failure = ""
    for stem in dict.fromkeys((_output_folder(), Path("model-garden"))):
        path = stem.with_name(stem.name + suffix)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        except OSError as unwritable:
            failure = f"{path}: {unwritable.strerror}"
        else:
            return f"traceback: {path}"
    return f"the traceback could not be written: {failure}"


def _output_folder() -> Path:
    try:
        config = json.loads(os.environ.get(CONFIG_ENV, ""))
        return Path(config["spec"]["outputDir"]).expanduser()
    except (ValueError, TypeError, KeyError, RuntimeError):  # no config, or one without an output folder
        return Path("model-garden")
