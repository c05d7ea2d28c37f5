"""Checks every row: counts what the data set contains, measures the lengths of its examples, and lists every problem.

Rows are checked in spans, by several processes if that saves time. Memory hardly grows with the data: a decoded image
is discarded, and what is kept of a row takes 16 bytes at most.
"""

from __future__ import annotations

import heapq
import math
import os
import pickle
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

from model_garden.contract.status import DatasetStatus, TokenLengths
from model_garden.datasets.boxes import boxes_warning, scaled_under_boxes
from model_garden.datasets.errors import LISTED, DatasetError, RowError
from model_garden.datasets.example import Example, ImageRef
from model_garden.datasets.examples import Examples
from model_garden.datasets.held_out import digest_row
from model_garden.datasets.sizes import Bounds, Size, check_scaled

Measure = Callable[[Example, Sequence[Size]], tuple[int, int]]
"""An example and the sizes (width, height) of its images -> its text tokens and image tokens; may raise RowError."""

SPAN = 128
"""Rows checked at a time."""
WORTH_PROCESSES = 10.0
"""More processes are started if the rest of the check would take more seconds than this: starting them takes a few."""
BUCKETS = 16


@dataclass(frozen=True)
class Bucket:
    """One bar of the histogram: ``rows`` examples of ``shortest`` to ``longest`` tokens, both included."""

    shortest: int
    longest: int
    rows: int


@dataclass(frozen=True)
class Lengths:
    """Lengths of examples in tokens, image tokens included."""

    minimum: int
    median: int
    p95: int
    maximum: int
    mean: float
    histogram: list[Bucket]
    over_limit: int
    """Examples longer than the limit."""
    most_image: int
    """The most image tokens of an example."""


@dataclass(frozen=True)
class CheckReport:
    """What the check found. ``problems`` has at most ``LISTED`` of ``problem_count`` lines."""

    rows: int
    turns: int
    images: int
    problem_count: int
    problems: list[str]
    broken_rows: list[int]
    """Positions of the first broken rows in the data set, from 0."""
    ignored_columns: dict[str, int]
    """Columns and keys that no format reads, with the number of rows that have them."""
    dropped: dict[str, int]
    """Number of skipped lines by reason. Only blank lines are skipped: a row that cannot be trained on is an error."""
    warnings: list[str] = field(default_factory=list)
    """What may be wrong in rows that can be trained on."""
    text_tokens: int | None = None
    image_tokens: int | None = None
    tokens: Lengths | None = None
    digests: array[int] = field(default_factory=lambda: array("Q"))
    """``digest_row`` of each row, if they were asked for and no row is broken."""

    @property
    def ok(self) -> bool:
        """Whether the data set can be trained on."""
        return not self.problem_count

    def raise_for_problems(self) -> None:
        """Raise DatasetError with the listed problems and the number of the others, if there are any."""
        if not self.ok:
            more = self.problem_count - len(self.problems)
            raise DatasetError(self.problems + ([f"and {more} more"] if more else []))

    def status(self, measured_by: Any = None) -> DatasetStatus:
        """The report as ``status.dataset``, which does not count blank lines."""
        lengths = None
        if self.tokens:
            lengths = TokenLengths(median=self.tokens.median, p95=self.tokens.p95, maximum=self.tokens.maximum)
        return DatasetStatus(rows=self.rows, images=self.images, tokens=lengths, measured_by=measured_by)


def warnings_of(reports: Sequence[CheckReport]) -> list[str]:
    """The warnings of all data sets of a run, and a sentence that names the ignored keys."""
    rows: Counter[str] = Counter()
    for report in reports:
        rows.update(report.ignored_columns)
    named = ", ".join(f"{key} ({count:,} row{'s' if count != 1 else ''})" for key, count in sorted(rows.items()))
    ignored = [f"keys that no format reads are ignored: {named}"] if rows else []
    return ignored + [warning for report in reports for warning in report.warnings]


def check_examples(
    examples: Examples,
    *,
    measure: Measure | None = None,
    max_length: int | None = None,
    bounds: Bounds = (None, None),
    processes: int | None = None,
    digests: bool = False,
) -> CheckReport:
    """Check every row of a data set.

    Args:
        examples: the data set.
        measure: counts the tokens of an example (``TokenCounter``); without it, lengths are not measured.
        max_length: the most tokens of an example; a longer one is an error, since examples are never truncated.
        bounds: smallest and largest area in pixels to which training scales images (``imageOptions``).
        processes: number of processes; only one if ``measure`` cannot be pickled. None starts one per core if that
            saves time. ``multiprocessing`` needs an importable main module.
        digests: also digest each row, to find it in another data set.
    """
    total = _Tally()
    for part in _checked_spans(_Checker(examples, measure, max_length, bounds, digests), processes):
        total.add(part)
    problems, count = total.problems[:LISTED], total.problem_count
    if total.too_long_count and max_length is not None:
        problems = [_too_long(total, max_length), *problems][:LISTED]
        count += 1
    blank = examples.blank_lines
    return CheckReport(
        rows=len(examples),
        turns=total.turns,
        images=total.images,
        problem_count=count,
        problems=problems,
        broken_rows=total.broken_rows,
        ignored_columns=dict(sorted(total.ignored.items())),
        dropped={"blank line": blank} if blank else {},
        warnings=_warnings(total),
        text_tokens=sum(total.text) if measure else None,
        image_tokens=sum(total.image) if measure else None,
        tokens=_lengths(total) if measure and len(total.text) else None,
        digests=total.digests,
    )


@dataclass(slots=True)
class _Tally:
    """The result for some rows. The tallies of all spans are added up."""

    turns: int = 0
    images: int = 0
    problem_count: int = 0
    problems: list[str] = field(default_factory=list)
    broken_rows: list[int] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    elsewhere: int = 0
    """Images that are fetched later."""
    boxes: int = 0
    """Rows that name boxes and whose images are scaled."""
    first_boxes: str | None = None
    text: array[int] = field(default_factory=lambda: array("I"))
    image: array[int] = field(default_factory=lambda: array("I"))
    digests: array[int] = field(default_factory=lambda: array("Q"))
    too_long_count: int = 0
    too_long: list[tuple[int, int, str]] = field(default_factory=list)
    """The longest examples above the limit: tokens, image tokens, where."""

    def add(self, other: _Tally) -> None:
        self.turns += other.turns
        self.images += other.images
        self.elsewhere += other.elsewhere
        self.problem_count += other.problem_count
        self.problems += other.problems[: LISTED - len(self.problems)]
        self.broken_rows += other.broken_rows[: LISTED - len(self.broken_rows)]
        self.ignored.update(other.ignored)
        self.boxes += other.boxes
        self.first_boxes = self.first_boxes or other.first_boxes
        self.text.extend(other.text)
        self.image.extend(other.image)
        self.digests.extend(other.digests)
        self.too_long_count += other.too_long_count
        self.too_long = heapq.nlargest(LISTED, self.too_long + other.too_long, key=lambda row: row[0])

    def broken(self, row: int, problem: str) -> None:
        self.problem_count += 1
        if len(self.problems) < LISTED:
            self.problems.append(problem)
            self.broken_rows.append(row)


@dataclass(frozen=True)
class _Checker:
    """Checks rows. It is pickled once for each process."""

    examples: Examples
    measure: Measure | None
    max_length: int | None
    bounds: Bounds
    digests: bool

    def span(self, rows: range) -> _Tally:
        tally = _Tally()
        for index in rows:
            try:
                self._row(index, tally)
            except RowError as error:
                tally.broken(index, self.examples.problem(index, error))
        return tally

    def _row(self, index: int, tally: _Tally) -> None:
        converted = self.examples.convert(index)
        example = converted.example
        images = example.images
        sizes = [_size(image, self.bounds) for image in images if image.is_here]
        tally.turns += len(example.messages)
        tally.images += len(images)
        tally.elsewhere += len(images) - len(sizes)
        tally.ignored.update(set(converted.ignored))
        if self.digests:
            tally.digests.append(digest_row(example))
        if scaled := scaled_under_boxes(example, sizes, self.bounds):
            tally.boxes += 1
            tally.first_boxes = tally.first_boxes or scaled
        if self.measure is None or len(sizes) < len(images):
            return
        text, image = self.measure(example, sizes)
        tally.text.append(text)
        tally.image.append(image)
        if self.max_length is not None and text + image > self.max_length:
            tally.add(_Tally(too_long_count=1, too_long=[(text + image, image, str(example.origin))]))


def _checked_spans(checker: _Checker, processes: int | None) -> Iterator[_Tally]:
    """The tallies of all spans in order: the first two from this process, the others from several if that is faster."""
    rows = len(checker.examples)
    spans = [range(start, min(start + SPAN, rows)) for start in range(0, rows, SPAN)]
    if processes is None:
        yield checker.span(spans[0][:1])  # imports and caches are not part of the time measured below
        started = time.perf_counter()
        yield checker.span(spans[0][1:])
        seconds_left = (time.perf_counter() - started) * (len(spans) - 1)
        spans = spans[1:]
        processes = _cores() if seconds_left > WORTH_PROCESSES else 1
    if processes == 1 or len(spans) < 2 or not _picklable(checker):
        yield from map(checker.span, spans)
        return
    with ProcessPoolExecutor(
        min(processes, len(spans)), mp_context=get_context("spawn"), initializer=_start, initargs=(checker,)
    ) as pool:
        yield from pool.map(_check_span, spans)


def _size(image: ImageRef, bounds: Bounds) -> Size:
    """The stored size of an image; raises RowError if the stored or the scaled image cannot be trained on."""
    from model_garden.datasets.pictures import name_of, verify

    size = verify(image)
    check_scaled(size, name_of(image), bounds)
    return size


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _picklable(checker: _Checker) -> bool:
    try:
        pickle.dumps(checker)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return True


_checker: _Checker


def _start(checker: _Checker) -> None:
    global _checker
    _checker = checker


def _check_span(rows: range) -> _Tally:
    return _checker.span(rows)


def _lengths(total: _Tally) -> Lengths:
    import numpy as np  # a slow import, which a check without lengths does not need

    tokens = np.sort(np.frombuffer(total.text, dtype=np.uint32) + np.frombuffer(total.image, dtype=np.uint32))
    count, shortest, longest = len(tokens), int(tokens[0]), int(tokens[-1])
    width = math.ceil((longest - shortest + 1) / BUCKETS)
    starts = range(shortest, longest + 1, width)
    rows = np.diff(np.searchsorted(tokens, [*starts, starts[-1] + width]))
    return Lengths(
        minimum=shortest,
        median=int(tokens[count // 2]),
        p95=int(tokens[min(count - 1, int(count * 0.95))]),
        maximum=longest,
        mean=float(tokens.mean()),
        histogram=[Bucket(start, start + width - 1, int(n)) for start, n in zip(starts, rows, strict=True)],
        over_limit=total.too_long_count,
        most_image=max(total.image),
    )


def _warnings(total: _Tally) -> list[str]:
    found = [boxes_warning(total.boxes, total.first_boxes)] if total.first_boxes else []
    if total.elsewhere:
        found.append(f"{total.elsewhere:,} image(s) at addresses were not fetched and not checked here")
    return found


def _too_long(total: _Tally, max_length: int) -> str:
    """One problem for all examples above the limit, which names the longest."""
    rows = [
        f"{where} ({tokens} tokens{f', {image} of them image tokens' if image else ''})"
        for tokens, image, where in total.too_long
    ]
    more = total.too_long_count - len(rows)
    named = "; ".join(rows) + (f"; and {more} more" if more else "")
    lower = " or lower imageOptions.maxPixels" if any(image for _, image, _ in total.too_long) else " or shorten them"
    return (
        f"{total.too_long_count} of {len(total.text)} rows are longer than maxSeqLength ({max_length}); rows are never "
        f"truncated: {named}; raise hyperparameters.maxSeqLength to {total.too_long[0][0]}{lower}"
    )
