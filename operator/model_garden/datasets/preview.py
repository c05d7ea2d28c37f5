"""Rows as a model reads them: text, tokens, and which of them carry loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from model_garden.datasets.errors import DatasetError, RowError
from model_garden.datasets.example import Example
from model_garden.datasets.examples import Examples
from model_garden.datasets.pictures import verify
from model_garden.datasets.tokens import TokenCounter


def preview_rows(examples: Examples, counter: TokenCounter, count: int) -> Iterator[dict[str, Any]]:
    """The first ``count`` rows of a data set.

    Returns:
        For each row, and of a row of preferences for each of its two answers, ``answer`` (``chosen``, ``rejected`` or
        None), ``file``, ``row`` (from 1), ``text`` and ``tokens``: a list of ``id``, ``text`` and ``trained``.
        The token of an image is repeated for each of its image tokens, but is once in ``text``. Of several tokens of
        one character, the first has the text.

    Raises:
        DatasetError: a row cannot be read, or would not be trained as written.
    """
    for index in range(min(count, len(examples))):
        try:
            sequences = examples[index].sequences
            answers = ("chosen", "rejected") if len(sequences) > 1 else (None,)
            for answer, example in zip(answers, sequences, strict=True):
                yield {"answer": answer} | _row(example, counter)
        except RowError as error:
            raise DatasetError([error.at(examples.origin(index))]) from error


def _row(example: Example, counter: TokenCounter) -> dict[str, Any]:
    found = counter.encode(example)
    pictures = iter(example.images)
    tokens: list[dict[str, Any]] = []
    shown = 0
    for number, (start, end), trained in zip(found.ids, found.offsets, found.trained, strict=True):
        repeat = 1
        if counter.images is not None and number == counter.image_token_id:
            repeat = counter.images(verify(next(pictures)))
        tokens += [{"id": number, "text": found.text[max(start, shown) : end], "trained": trained}] * repeat
        shown = max(shown, end)
    return {"file": str(example.origin.file), "row": example.origin.row, "text": found.text, "tokens": tokens}
