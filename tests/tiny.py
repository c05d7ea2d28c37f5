"""Tiny models for tests, each made once a session: ``tiny_model("qwen2_5_vl")`` is the folder of a loadable model."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from a kind (``qwen2_5_vl``, ``qwen3_vl``, ``qwen2``, ``llama``) to the folder of a tiny model of it.

    Tests share the folders: they read them only.
    """
    root = tmp_path_factory.mktemp("tiny-models")

    def model(kind: str) -> Path:
        folder = root / kind
        if not folder.exists():
            from testing.tiny_models import make_tiny_model  # torch is loaded for tests that need it only

            make_tiny_model(kind, folder)  # type: ignore[arg-type]
        return folder

    return model
