"""The adapter: what every run leaves, at the root of its output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model_garden.contract.trainer_config import TrainerConfig
from model_garden_trainer.exports.outputs import exporting
from model_garden_trainer.models.base_model import carry_processor_files


def save(model: Any, config: TrainerConfig, base: Path, output: Path) -> None:
    """Adapter weights and config, and the base model's processor files, at the root of ``output``.

    Raises:
        TrainingError: ExportFailed.
    """
    with exporting("the adapter could not be written; the last checkpoint is kept"):
        for settings in model.peft_config.values():
            settings.base_model_name_or_path = config.spec.base_model
            settings.revision = config.spec.base_model_revision
            settings.inference_mode = True
        model.save_pretrained(output, save_embedding_layers=False)
        carry_processor_files(base, output)
