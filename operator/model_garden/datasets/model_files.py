"""Reads the small files of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class DamagedModelFile(ValueError):
    """A file of the model cannot be read; the message names it."""


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one if there is no file.

    Raises:
        DamagedModelFile: it holds no JSON object.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    if not isinstance(found, dict):
        raise damaged(path, "not a JSON object")
    return found


def damaged(path: Path, reason: object) -> DamagedModelFile:
    """The error for a file that cannot be read."""
    return DamagedModelFile(f"{path} is damaged ({reason}); download the model again")
