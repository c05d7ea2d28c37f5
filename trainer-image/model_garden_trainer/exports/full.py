"""The model of a full fine-tuning: a model folder in 16 bit at the root of the output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model_garden.contract.trainer_config import TrainerConfig
from model_garden_trainer.exports.merged import check_16bit, narrow, sixteen_bit
from model_garden_trainer.exports.outputs import exporting
from model_garden_trainer.models.base_model import carry_processor_files

_OF_AN_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


def save(model: Any, config: TrainerConfig, base: Path, output: Path) -> None:
    """All weights, the config, and the base model's processor files, at the root of ``output``.

    Args:
        model: the trained model, which is in 16 bit afterwards.
        config: the job's.
        base: the base model's folder.
        output: the output folder.

    Raises:
        TrainingError: ExportFailed.
    """
    with exporting(f"the model of {config.name} could not be written; the last checkpoint is kept"):
        for name in _OF_AN_ADAPTER:  # an earlier attempt left it: transformers would load it with the model
            (output / name).unlink(missing_ok=True)
        model.config.use_cache = True  # off in training alone
        narrow(model, sixteen_bit(base))
        type(model).save_pretrained(model, output)
        carry_processor_files(base, output, config.spec.chat_template)
        check_16bit(output)
