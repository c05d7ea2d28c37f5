"""What the Hub says of a base model: its config.json, which a memory estimate needs, and its size."""

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
DOWNLOADED = (".safetensors", ".json", ".jinja", ".model", ".txt", ".tiktoken", ".py")
"""Ends of the names of files that a job downloads."""


async def read_model_config(spec: TrainingJobSpec) -> dict[str, Any]:
    """The parsed config.json of ``baseModel``.

    Raises:
        Unavailable: the base model is a folder in the cluster, or the Hub does not give the file.
    """
    if not is_on_hub(spec.base_model):
        raise Unavailable(f"config.json of {spec.base_model} is not on the Hub and cannot be read here")
    url = f"{_endpoint()}/{spec.base_model}/resolve/{spec.base_model_revision or 'main'}/config.json"
    config = await _read_json(url)
    if not isinstance(config, dict):
        raise Unavailable(f"{url} is not a JSON object")
    return config


async def read_download_size(spec: TrainingJobSpec) -> int | None:
    """Bytes of the files that a job downloads of ``baseModel``; None for a folder, or if the Hub gives no sizes.

    Format: https://huggingface.co/docs/hub/api
    """
    if not is_on_hub(spec.base_model):
        return None
    url = f"{_endpoint()}/api/models/{spec.base_model}/revision/{spec.base_model_revision or 'main'}?blobs=true"
    try:
        files = (await _read_json(url))["siblings"]
        sizes = [one["size"] for one in files if one["rfilename"].endswith(DOWNLOADED)]
        return sum(sizes) or None
    except (Unavailable, KeyError, TypeError):
        return None


def _endpoint() -> str:
    return os.environ.get(ENDPOINT_ENV, HUB).rstrip("/")


async def _read_json(url: str) -> Any:
    import aiohttp

    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session,
            session.get(url) as answer,
        ):
            answer.raise_for_status()
            text = bytearray()
            async for chunk in answer.content.iter_any():
                text += chunk
                if len(text) > MAX_BYTES:
                    raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
            return json.loads(text)
    except (aiohttp.ClientError, OSError, ValueError) as failed:
        raise Unavailable(f"{url} cannot be read ({failed or type(failed).__name__})") from failed
