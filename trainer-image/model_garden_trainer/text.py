"""Text models: what is particular to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from model_garden.contract.spec import TrainingJobSpec
from model_garden_trainer.encoding import Encoder


class TextTrainer:
    """A causal language model and its tokenizer; content is plain text."""

    MODEL: Any = AutoModelForCausalLM

    def load_processor(self, folder: Path) -> Any:
        """The tokenizer of a model or an output."""
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def encoder(self, processor: Any, spec: TrainingJobSpec) -> Encoder:
        """The collator of a run."""
        return Encoder(
            processor,
            vision=False,
            train_on=spec.train_on or "responses",
            selective_loss=spec.selective_loss or "off",
        )
