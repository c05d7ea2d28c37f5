"""The config.json of a base model on the Hub: what a memory estimate needs of it."""

from __future__ import annotations

import json
import os
from typing import Any

from model_garden.contract.spec import TrainingJobSpec, is_on_hub
from model_garden.services.errors import Unavailable

HUB = "https://huggingface.co"
ENDPOINT_ENV = "HF_ENDPOINT"
"""Names another Hub, as for the Hugging Face libraries."""
MAX_BYTES = 1024 * 1024
SECONDS = 10.0


async def read_model_config(spec: TrainingJobSpec) -> dict[str, Any]:
    """The parsed config.json of ``baseModel``.

    Raises:
        Unavailable: the base model is a folder in the cluster, or the Hub does not give the file.
    """
    import aiohttp

    way_out = "send it as base_model_config"
    if not is_on_hub(spec.base_model):
        raise Unavailable(f"config.json of {spec.base_model} is not on the Hub and cannot be read here; {way_out}")
    endpoint = os.environ.get(ENDPOINT_ENV, HUB).rstrip("/")
    url = f"{endpoint}/{spec.base_model}/resolve/{spec.base_model_revision or 'main'}/config.json"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session,
            session.get(url) as answer,
        ):
            answer.raise_for_status()
            text = await answer.content.read(MAX_BYTES)
        config = json.loads(text)
    except (aiohttp.ClientError, OSError, ValueError) as failed:
        raise Unavailable(f"{url} cannot be read ({failed or type(failed).__name__}); {way_out}") from failed
    if not isinstance(config, dict):
        raise Unavailable(f"{url} is not a JSON object; {way_out}")
    return config
