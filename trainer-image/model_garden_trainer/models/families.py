"""The two families a job trains, and what is particular to each: its model class, its processor, its collator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from model_garden.contract.spec import EffectiveSpec
from model_garden.datasets.model_files import read_json
from model_garden.families import reads_images
from model_garden_trainer.batches.collator import Collator


@dataclass(frozen=True)
class TextTrainer:
    """Rows of text, for a causal language model with its tokenizer.

    A model that reads images too is loaded whole, so that its outputs keep the image encoder; its processor prepares
    the text.

    Args:
        reads_images: whether the model has an image encoder.
    """

    reads_images: bool = False

    @property
    def model_class(self) -> Any:
        """The auto class of the model."""
        return AutoModelForImageTextToText if self.reads_images else AutoModelForCausalLM

    def load_processor(self, folder: Path) -> Any:
        """The tokenizer or processor of a model or an output."""
        auto = AutoProcessor if self.reads_images else AutoTokenizer
        return auto.from_pretrained(folder, local_files_only=True)

    def encoder(self, processor: Any, spec: EffectiveSpec) -> Collator:
        """The collator of a run."""
        return Collator(
            processor,
            vision=False,
            train_on=spec.train_on,
            selective_loss=spec.selective_loss,
            template=spec.chat_template,
        )


class VisionLanguageTrainer:
    """A model that reads images and text, and its processor; content is a list of parts."""

    model_class: Any = AutoModelForImageTextToText

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
            template=spec.chat_template,
            min_pixels=min_pixels,
            max_pixels=max_pixels,
        )


def trainer_for(spec: EffectiveSpec, folder: Path) -> TextTrainer | VisionLanguageTrainer:
    """By ``isVision``, and for text by the config.json of the model in ``folder``."""
    if spec.vision:
        return VisionLanguageTrainer()
    return TextTrainer(reads_images(read_json(folder / "config.json")))
