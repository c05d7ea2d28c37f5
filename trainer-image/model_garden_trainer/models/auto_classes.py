"""The auto classes of transformers that a model needs: for its weights, and for its tokenizer or processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from model_garden.contract.spec import EffectiveSpec
from model_garden.datasets.model_files import read_json
from model_garden.families import reads_images
from model_garden_trainer.batches.collator import Collator
from model_garden_trainer.models import tokenizer
from model_garden_trainer.models.repairs import repair


def model_class(spec: EffectiveSpec, folder: Path) -> Any:
    """The auto class of the model in ``folder``, whose own classes are repaired where they need it.

    A model that reads images is loaded whole for rows of text too, so that its outputs keep the image encoder.
    """
    repair(read_json(folder / "config.json").get("model_type", ""))
    return AutoModelForImageTextToText if _reads_images(spec, folder) else AutoModelForCausalLM


def collator(spec: EffectiveSpec, model: Path, output: Path | None = None) -> Collator:
    """The collator of a run.

    Args:
        spec: the job's, whose ``imageOptions`` bound the size of images.
        model: the folder of the model.
        output: the folder that the tokenizer or processor is read from, if it is another.
    """
    min_pixels, max_pixels = spec.pixel_bounds
    return Collator(
        tokenizer.load(output or model, images=_reads_images(spec, model)),
        vision=bool(spec.vision),
        train_on=spec.train_on,
        selective_loss=spec.selective_loss,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
        template=spec.chat_template,
    )


def _reads_images(spec: EffectiveSpec, folder: Path) -> bool:
    return bool(spec.vision) or reads_images(read_json(folder / "config.json"))
