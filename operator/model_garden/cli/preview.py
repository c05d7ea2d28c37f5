"""``preview``: rows of a data set as a model reads them, with the trained part marked."""

from __future__ import annotations

import sys
from typing import Any

from model_garden.cli.data import is_job
from model_garden.cli.output import FAILED, CommandError, has_color, note, print_json
from model_garden.cli.spec_flags import named_by_flag
from model_garden.contract.defaults import effective_spec
from model_garden.services.data_check import (
    Check,
    check_by_fields,
    check_of,
    count_tokens,
    open_rows,
    reads_images,
    trainer_packages,
)
from model_garden.services.manifest import read_job
from model_garden.services.remote_data import with_images

MARKS = ("⟦", "⟧")
"""Marks of the trained part, where the output has no color."""
TRAINED, PLAIN = "\033[1;32m", "\033[0m"


def preview(path: str, fields: dict[str, Any], *, rows: int, output: str) -> None:
    """Print the first rows of a data set, or of the data set of a TrainingJob.

    Args:
        path: a data set, or the file of a TrainingJob.
        fields: fields of the spec, which override those of the TrainingJob.
        rows: how many.
        output: ``table`` or ``json``.

    Raises:
        InvalidResource: the fields or the TrainingJob break a rule of the spec.
        CommandError: the data or the model cannot be read, or a row would not be trained as written.
    """
    with trainer_packages():
        from model_garden.datasets import DamagedModelFile, DatasetError, UncountableError
        from model_garden.datasets.preview import preview_rows
        from model_garden.remote.errors import RemoteError
    with named_by_flag():
        check = _check(path, fields)
    try:
        check = with_images(check, rows) if check.pictures else check
        vision = reads_images(check)
        examples = open_rows(check, vision=vision)
        found = list(preview_rows(examples, count_tokens(check, vision=vision), rows))
    except (DatasetError, DamagedModelFile, UncountableError, RemoteError) as error:
        raise CommandError(str(error), FAILED) from error
    if output == "json":
        print_json(found)
        return
    for row in found:
        _print(row)
    note("The trained part is marked. <…> is a control token of the model. Each image is shown as one token.")


def _check(path: str, fields: dict[str, Any]) -> Check:
    if is_job(path):
        spec = effective_spec((job := read_job(path, fields)).spec, job.name)
        return check_of(spec, spec.dataset_path, spec.dataset_split)
    if "baseModel" not in fields:
        raise CommandError("give --base-model, the folder of the model that reads the rows")
    return check_by_fields(path, fields)


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
