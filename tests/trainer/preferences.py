"""Rows of preferences for tests: short texts, of which one kind is always preferred."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

COLORS = ("red", "blue")


def preference_rows(count: int) -> list[dict[str, Any]]:
    """``count`` rows of a prompt, a short answer that is chosen and a long one that is rejected."""
    return [
        {"prompt": f"Name color {n}.", "chosen": COLORS[n % 2], "rejected": "I do not want to say."}
        for n in range(count)
    ]


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write ``rows`` as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
