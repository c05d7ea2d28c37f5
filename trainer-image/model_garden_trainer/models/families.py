"""The two families a job trains, and what is particular to each: its model class, its processor, its collator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from model_garden.contract.spec import EffectiveSpec
from model_garden_trainer.batches.collator import Collator


class TextTrainer:
    """A causal language model and its tokenizer; content is plain text."""

    MODEL: Any = AutoModelForCausalLM

    def load_processor(self, folder: Path) -> Any:
        """The tokenizer of a model or an output."""
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def encoder(self, processor: Any, spec: EffectiveSpec) -> Collator:
        """The collator of a run."""
        return Collator(
            processor,
            vision=False,
            train_on=spec.train_on,
            selective_loss=spec.selective_loss,
        )


class VisionLanguageTrainer:
    """A model that reads images and text, and its processor; content is a list of parts."""

    MODEL: Any = AutoModelForImageTextToText

    def load_processor(self, folder: Path) -> Any:
        """The processor of a model or an output."""
        return AutoProcessor.from_pretrained(folder, local_files_only=True)

    def encoder(self, processor: Any, spec: EffectiveSpec) -> Collator:
        """The collator of a run, which brings images within ``imageOptions``."""
        min_pixels, max_pixels = spec.pixel_bounds
        return Collator(
            processor,
            vision=True,
            train_on=spec.train_on,
            selective_loss=spec.selective_loss,
            min_pixels=min_pixels,
            max_pixels=max_pixels,
        )


def trainer_for(spec: EffectiveSpec) -> TextTrainer | VisionLanguageTrainer:
    """By ``isVision``."""
    return VisionLanguageTrainer() if spec.vision else TextTrainer()
