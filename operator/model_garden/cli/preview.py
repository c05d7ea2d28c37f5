"""``preview``: rows of a data set as a model reads them, with the trained part marked."""

from __future__ import annotations

import sys
from typing import Any

from model_garden.cli.output import FAILED, CommandError, has_color, note, print_json
from model_garden.services.data_check import Check, has_images, trainer_packages

MARKS = ("⟦", "⟧")
"""Marks of the trained part, where the output has no color."""
TRAINED, PLAIN = "\033[1;32m", "\033[0m"


def preview(path: str, *, base_model: str, vision: bool | None, split: str, rows: int, output: str) -> None:
    """Print the first rows.

    Raises:
        CommandError: the data or the model cannot be read, or a row would not be trained as written.
    """
    with trainer_packages():
        from model_garden.datasets import DamagedModelFile, DatasetError, TokenCounter, UncountableError, open_examples
        from model_garden.datasets.preview import preview_rows
    try:
        kind = has_images(Check(path, vision, split)) if vision is None else vision
        examples = open_examples(path, vision=kind, method=None, split=split)
        found = list(preview_rows(examples, TokenCounter.load(base_model, vision=kind), rows))
    except (DatasetError, DamagedModelFile, UncountableError) as error:
        raise CommandError(str(error), FAILED) from error
    if output == "json":
        print_json(found)
        return
    for row in found:
        _print(row)
    note("The trained part is marked. <…> is a control token of the model. Each image is shown as one token.")


def _print(row: dict[str, Any]) -> None:
    tokens = row["tokens"]
    trained = sum(token["trained"] for token in tokens)
    answer = f" ({row['answer']})" if row["answer"] else ""
    print(f"{row['file']} row {row['row']}{answer}: {len(tokens):,} tokens, {trained:,} trained")
    print("".join(_runs(tokens)))
    print()


def _runs(tokens: list[dict[str, Any]]) -> list[str]:
    """The pieces of the text, with a mark where a trained part begins and ends, and the token of an image once."""
    begin, end = (TRAINED, PLAIN) if has_color(sys.stdout) else MARKS
    parts: list[str] = []
    before: dict[str, Any] = {"id": None, "trained": False}
    for token in tokens:
        if token["trained"] != before["trained"]:
            parts.append(begin if token["trained"] else end)
        if token["id"] != before["id"] or not token["text"].startswith("<"):
            parts.append(token["text"])
        before = token
    return [*parts, end] if before["trained"] else parts
