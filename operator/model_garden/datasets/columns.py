"""``columnMapping``: reads the columns of a data set under the names of the formats, and suggests a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model_garden.contract.methods import Method
from model_garden.datasets.errors import RowError

NAMES = {
    "messages": "messages",
    "prompt": "instruction",
    "response": "output",
    "system": "system",
    "image": "image",
    "images": "images",
    "reasoning": "reasoning",
    "tools": "tools",
    "chosen": "chosen",
    "rejected": "rejected",
    "label": "kto_tag",
}
"""The column that each key of ``columnMapping`` stands for in the formats."""
UNMAPPED = " (not mapped)"
"""Follows the name of a column that a format would read and that ``columnMapping`` does not name."""
_OPTIONAL = ("system", "image", "images", "reasoning", "tools")
_PROMPTS = (
    "question",
    "query",
    "instruction",
    "prompt",
    "problem",
    "input",
    "user",
    "human",
    "question_text",
    "request",
)
_RESPONSES = (
    *("response", "answer", "output", "completion", "target", "solution", "assistant", "reply", "caption", "summary"),
    *("label", "final_answer", "model_answer"),
)
_IMAGES = ("image", "images", "img", "image_path", "image_file", "picture", "photo", "file_name", "jpg", "png")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def renamed(row: Any, mapping: Mapping[str, str], read: frozenset[str]) -> Any:
    """A row with its columns under the names of the formats.

    Another column that a format would read is left out of the row's format, as ``NAME (not mapped)``: it is reported
    as ignored, and reward functions get it under its own name.

    Args:
        row: the row in the file.
        mapping: ``columnMapping``; empty for none.
        read: the columns that formats read.

    Raises:
        RowError: the row lacks a column that is named.
    """
    if not mapping or not isinstance(row, dict):
        return row
    for role, column in mapping.items():
        if role not in _OPTIONAL and row.get(column) is None:
            raise RowError(
                f'the row has no "{column}", which columnMapping.{role} names (its keys: {", ".join(row) or "none"})',
                f'add "{column}", or correct columnMapping.{role}',
            )
    others = {key: value for key, value in row.items() if key not in mapping.values()}
    kept = {key + UNMAPPED if key in read else key: value for key, value in others.items()}
    return kept | {NAMES[role]: row.get(column) for role, column in mapping.items()}


def spelled(error: RowError, mapping: Mapping[str, str]) -> RowError:
    """The error with the names of the row's own columns."""
    words = [error.reason, error.fix]
    for role, column in mapping.items():
        name = NAMES[role]
        words = [text.replace(f'"{name}"', f'"{column}"').replace(f"{name}[", f"{column}[") for text in words]
    return RowError(*words)


def suggested(row: Mapping[str, Any], method: Method | None = "sft") -> dict[str, str]:
    """A mapping that reads a row of no known format; empty if its columns show none."""
    found = _suggested(row)
    if method != "kto":
        return found
    label = next((key for key, value in row.items() if isinstance(value, bool)), None)
    return found | {"label": label} if found and label else {}


def _suggested(row: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    if turns := next((key for key, value in row.items() if _lists_turns(value)), None):
        return {"messages": turns}
    texts = {key: value for key, value in row.items() if isinstance(value, str)}
    prompt = next((key for name in _PROMPTS for key in texts if key.lower() == name), None)
    response = next((key for name in _RESPONSES for key in texts if key.lower() == name and key != prompt), None)
    if prompt is None or response is None:
        return {}
    found |= {"prompt": prompt, "response": response}
    if image := next((key for key, value in row.items() if key not in found.values() and _is_image(key, value)), None):
        found["images" if isinstance(row[image], list) else "image"] = image
    if "system" in texts:
        found["system"] = "system"
    return found


def _lists_turns(value: Any) -> bool:
    keys = ({"role", "content"}, {"from", "value"})
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, dict) and any(turn.keys() >= wanted for wanted in keys) for turn in value)
    )


def _is_image(key: str, value: Any) -> bool:
    if isinstance(value, dict):
        return isinstance(value.get("bytes"), bytes)
    if isinstance(value, list):
        return bool(value) and _is_image(key, value[0])
    named = key.lower() in _IMAGES
    return isinstance(value, bytes) or (isinstance(value, str) and (named or value.lower().endswith(_SUFFIXES)))
