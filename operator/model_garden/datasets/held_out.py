"""Rows that measure a model should be rows that it is not trained on."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Sequence

from model_garden.datasets.examples import Examples
from model_garden.datasets.origin import Origin


def split(rows: int, fraction: float | None, seed: int) -> tuple[Sequence[int], Sequence[int]]:
    """The rows to train on and those held out for ``validationFraction``, each in order; the same for the same seed."""
    if not fraction:
        return range(rows), ()
    shuffled = list(range(rows))
    random.Random(seed).shuffle(shuffled)
    held_out = max(1, round(rows * fraction))
    return sorted(shuffled[held_out:]), sorted(shuffled[:held_out])


def all_held_out(rows: int, fraction: float | None) -> str:
    """The problem of a data set of which ``split`` leaves nothing to train on."""
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


def picked(digests: array[int], rows: Sequence[int]) -> array[int]:
    """The digests of some rows."""
    return array("Q", (digests[row] for row in rows))


def repeated_rows(kind: str, held_out: array[int], trained: array[int], origin: Callable[[int], Origin]) -> str | None:
    """A warning, if rows that measure the model are trained on too, in another file or elsewhere in it; else None.

    Args:
        kind: what the rows are called in the warning.
        held_out: the digests (``digest_row``) of the rows that measure the model.
        trained: those of the rows that are trained on.
        origin: called with a position in ``held_out``; returns the row's file and number.
    """
    if not held_out:
        return None
    import numpy as np  # a slow import, which a job without such rows does not need

    repeated = np.flatnonzero(np.isin(np.asarray(held_out), np.asarray(trained)))
    if not len(repeated):
        return None
    return (
        f"{len(repeated):,} of {len(held_out):,} {kind} rows are trained on too, first {origin(int(repeated[0]))}: "
        "they do not show what the model does with new rows; remove them from one of the two"
    )
