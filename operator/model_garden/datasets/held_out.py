"""Rows that measure a model should be rows that it is not trained on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from array import array
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from model_garden.datasets.example import PLAIN, Example, ImageRef, Message
from model_garden.datasets.examples import Examples


def hold_out(rows: int, fraction: float | None, seed: int) -> tuple[Sequence[int], Sequence[int]]:
    """The rows to train on and those held out for ``validationFraction``, each in order; the same for the same seed."""
    if not fraction:
        return range(rows), ()
    shuffled = list(range(rows))
    random.Random(seed).shuffle(shuffled)
    held_out = max(1, round(rows * fraction))
    return sorted(shuffled[held_out:]), sorted(shuffled[:held_out])


def all_held_out(rows: int, fraction: float | None) -> str:
    """The problem of a data set of which ``hold_out`` leaves nothing to train on."""
    return f"spec.validationFraction: {fraction} holds out all of {rows} row(s); add rows, or lower validationFraction"


def shared_file(field: str, path: str, rows: Examples, trained: Examples) -> str | None:
    """The problem, if a file holds rows that measure the model and rows that are trained on; else None.

    Args:
        field: the field of the spec that names ``rows``.
        path: its value.
        rows: what measures the model.
        trained: what is trained on.
    """
    shared = rows.files & trained.files
    if not shared:
        return None
    return (
        f"spec.{field}: {path} holds {min(shared)}, whose rows spec.datasetPath trains on; keep the rows of each field "
        "in files of their own, for example in two folders"
    )


def digest_row(example: Example) -> int:
    """64 bits of what a row holds: the same in any file and format, and for a copy of an image under another name.

    Columns that only reward functions read are not part of it.
    """
    turns = [[_content(message) for message in messages] for messages in (example.messages, example.rejected)]
    text = json.dumps([example.kind, turns, example.tools, example.label], sort_keys=True, default=str)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def picked(digests: array[int], rows: Sequence[int]) -> array[int]:
    """The digests of some rows."""
    return array("Q", (digests[row] for row in rows))


def repeated_rows(
    field: str, rows: Examples, digests: array[int], held_out: Sequence[int], trained: array[int]
) -> str | None:
    """A warning, if rows that measure the model are trained on too, in another file or elsewhere in it; else None.

    Args:
        field: the field of the spec by which the rows are held out.
        rows: the data set that they are in.
        digests: the digest (``digest_row``) of each row of it.
        held_out: the rows that measure the model.
        trained: the digests of the rows that are trained on.
    """
    if not held_out:
        return None
    import numpy as np  # a slow import, which a job without such rows does not need

    repeated = np.flatnonzero(np.isin(np.asarray(picked(digests, held_out)), np.asarray(trained)))
    if not len(repeated):
        return None
    fix = (
        "remove repeated rows from spec.datasetPath"
        if field == "validationFraction"
        else f"remove them from spec.datasetPath or from spec.{field}"
    )
    return (
        f"spec.{field}: the model is trained on {len(repeated):,} of the {len(held_out):,} row(s) too, first "
        f"{rows.origin(held_out[int(repeated[0])])}; such rows do not show what it does with new ones; {fix}"
    )


def _content(message: Message) -> list[Any]:
    parts = [part if isinstance(part, str) else {"image": _digest_image(part)} for part in message.parts]
    return [message.role, parts, None if message.details == PLAIN else dataclasses.asdict(message.details)]


def _digest_image(image: ImageRef) -> str:
    """A digest of an image's bytes, from a file as from a row; of one that is not fetched, its address."""
    source = image.source
    if isinstance(source, Path):
        status = source.stat()
        return _digest_file(source, status.st_ino, status.st_size, status.st_mtime_ns)
    return source if isinstance(source, str) else hashlib.sha256(source).hexdigest()


@lru_cache(maxsize=4096)
def _digest_file(path: Path, *_content: int) -> str:
    """The digest of a file with this content, which its inode, size and time stand for: rows often share an image."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
