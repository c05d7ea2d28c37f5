"""Vision-language models: what is particular to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoModelForImageTextToText, AutoProcessor

from model_garden.contract.spec import ImageOptions, TrainingJobSpec
from model_garden_trainer.encoding import Encoder


class VisionLanguageTrainer:
    """A model that reads pictures and text, and its processor; content is a list of parts."""

    MODEL: Any = AutoModelForImageTextToText

    def load_processor(self, folder: Path) -> Any:
        """The processor of a model or an output."""
        return AutoProcessor.from_pretrained(folder, local_files_only=True)

    def encoder(self, processor: Any, spec: TrainingJobSpec) -> Encoder:
        """The collator of a run, which brings pictures within ``imageOptions``."""
        bounds = spec.image_options or ImageOptions()
        return Encoder(
            processor,
            vision=True,
            train_on=spec.train_on or "responses",
            selective_loss=spec.selective_loss or "off",
            min_pixels=bounds.min_pixels,
            max_pixels=bounds.max_pixels,
        )
