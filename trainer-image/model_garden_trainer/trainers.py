"""Which of the two trainers a job runs."""

from __future__ import annotations

from model_garden.contract.spec import TrainingJobSpec
from model_garden_trainer.text import TextTrainer
from model_garden_trainer.vision import VisionLanguageTrainer


def trainer_for(spec: TrainingJobSpec) -> TextTrainer | VisionLanguageTrainer:
    """By ``isVision``."""
    return VisionLanguageTrainer() if spec.vision else TextTrainer()
