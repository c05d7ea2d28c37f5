"""Whether a request trains on images: OpenAI's API does not say it, but the data and the model do."""

from __future__ import annotations

import re

from model_garden.api.access import Caller
from model_garden.cluster import ClusterError
from model_garden.contract.resource import parse_spec
from model_garden.families import reads_images
from model_garden.openai_api.request import Invalid
from model_garden.services.errors import MissingPackages, NotFound, Unavailable
from model_garden.services.model_config import read_model_config
from model_garden.storage.interface import InvalidPath, PreviewRequest, StorageFailed

_NAMES = re.compile(r"\bvl[m\d]?\b|vision|llava", re.IGNORECASE)
"""Parts of the names of vision-language models, for one whose config.json cannot be read here."""


async def trains_vision(caller: Caller, model: str, dataset: str) -> bool:
    """Whether images are trained on.

    Raises:
        Invalid: the data set is not there, or its rows have images and the model takes none.
    """
    return decide(model, images=await _has_images(caller, dataset), takes_images=await _takes_images(model))


def decide(model: str, *, images: bool | None, takes_images: bool | None) -> bool:
    """The decision; None for what is not known. A model that takes images is trained as a text model on rows of text.

    Raises:
        Invalid: the rows have images and the model takes none.
    """
    if images and takes_images is False:
        raise Invalid(
            "model",
            f"{model} takes no images, but training_file has rows with images; give a vision-language model such as "
            "Qwen/Qwen2.5-VL-7B-Instruct",
        )
    return bool(takes_images if images is None else images)


async def _has_images(caller: Caller, dataset: str) -> bool | None:
    """Whether the first rows have images; None if they cannot be read here.

    Raises:
        Invalid: the data set is not there.
    """
    if "://" in dataset:
        return None
    try:
        kind = (await caller.storage.preview(PreviewRequest(path=dataset, count=1))).kind
    except NotFound as missing:
        raise Invalid("training_file", str(missing)) from missing
    except (Unavailable, MissingPackages, InvalidPath, StorageFailed, ClusterError):
        return None
    return None if kind is None else kind == "vision"


async def _takes_images(model: str) -> bool | None:
    """Whether the model takes images; None if its config.json cannot be read here and its name does not say it."""
    if _NAMES.search(model):
        return True
    try:
        config = await read_model_config(parse_spec({"baseModel": model, "datasetPath": "./data"}))
    except Unavailable:
        return None
    return reads_images(config)
