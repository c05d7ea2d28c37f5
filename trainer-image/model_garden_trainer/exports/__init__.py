"""What a run leaves, one module each: ``adapter``, ``merged``, ``gguf``, ``hub``, ``bucket``.

All but the adapter are made from the saved adapter and a freshly loaded base model, so that a failed export costs
nothing but itself. What an export would fail at after hours of training is looked at before (``check``). No torch is
imported here before something is made, so that a job can be checked where none is installed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import assert_never

from model_garden.contract.trainer_config import TrainerConfig
from model_garden_trainer.events import Report
from model_garden_trainer.exports import bucket, gguf, hub, merged, ollama
from model_garden_trainer.exports.outputs import Exports, exporting


def check(config: TrainerConfig, base: Path, report: Report, *, gpu: bool) -> None:
    """See before training that the exports a job asks for can be made.

    Args:
        config: the job's.
        base: the folder of its base model.
        report: gets a warning for what cannot be seen from here.
        gpu: whether the process that trains has one.

    Raises:
        TrainingError: InvalidSpec, saying what to install or to choose; OutputNotWritable for a bucket that cannot be
            written.
    """
    spec = config.spec
    if spec.save_method == "merged_4bit":
        merged.check_4bit(gpu=gpu)
    if spec.save_method == "gguf":
        gguf.check(spec, base)
    if spec.push_to_hub:
        hub.check(spec.push_to_hub, report)
    if spec.push_to and os.environ.get("RANK", "0") == "0":  # of several processes the first alone writes
        bucket.check(config)


def make(config: TrainerConfig, base: Path, output: Path) -> Exports:
    """Make what ``saveMethod`` asks for beside the adapter in ``output``.

    Raises:
        TrainingError: ExportFailed; the adapter is kept.
    """
    folder = output / merged.FOLDER
    if config.spec.adapter == "none":
        return _make_of_model(config, base, output, folder)
    match config.spec.save_method:
        case "lora":
            return Exports()
        case "merged_16bit":
            merged.save_16bit(config, base, output, folder)
            return Exports(merged=folder)
        case "merged_4bit":
            with tempfile.TemporaryDirectory(dir=output, prefix="merging-") as between:
                merged.save_16bit(config, base, output, Path(between))
                merged.save_4bit(config, base, Path(between), folder)
            return Exports(merged=folder)
        case "gguf":
            merged.save_16bit(config, base, output, folder)
            return _gguf(config, folder, output)
        case unknown:
            assert_never(unknown)


def _make_of_model(config: TrainerConfig, base: Path, output: Path, folder: Path) -> Exports:
    """The same where ``output`` holds a whole model in 16 bit."""
    match config.spec.save_method:
        case "merged_4bit":
            merged.save_4bit(config, base, output, folder)
            return Exports(merged=folder)
        case "gguf":
            return replace(_gguf(config, output, output), merged=None)  # the model is no step on the way here
        case _:
            return Exports()


def _gguf(config: TrainerConfig, model: Path, output: Path) -> Exports:
    found = gguf.convert(config, model, output)
    with exporting("the Modelfile for Ollama could not be written; the adapter is kept"):
        ollama.write(output, found, model)
    return found


def clean_up(made: Exports) -> Exports:
    """Drop what was only a step on the way: the merged model that a GGUF file was made from."""
    if made.gguf is None or made.merged is None:
        return made
    shutil.rmtree(made.merged)
    return Exports(gguf=made.gguf, projector=made.projector)
