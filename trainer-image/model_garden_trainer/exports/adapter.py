"""The adapter: what every run leaves, at the root of its output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import save_file

from model_garden.contract.trainer_config import TrainerConfig
from model_garden_trainer.exports.outputs import exporting
from model_garden_trainer.models.base_model import carry_processor_files
from model_garden_trainer.models.peft_adapter import State, doubled, weights


def save(model: Any, start: State | None, config: TrainerConfig, base: Path, output: Path) -> None:
    """Adapter weights and config, and the base model's processor files, at the root of ``output``.

    Args:
        model: the trained model.
        start: what ``peft_adapter.initial`` gave before training.
        config: the job's.
        base: the base model's folder.
        output: the output folder.

    Raises:
        TrainingError: ExportFailed.
    """
    with exporting("the adapter could not be written; the last checkpoint is kept"):
        settings = model.peft_config["default"]  # a method may have another, to compare with
        settings.base_model_name_or_path = config.spec.base_model
        settings.revision = config.spec.base_model_revision
        settings.inference_mode = True
        if start is not None:
            doubled(settings)
        save_file(weights(model, start), output / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})
        settings.save_pretrained(output)
        carry_processor_files(base, output, config.spec.chat_template)
