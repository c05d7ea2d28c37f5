"""autoBatchSize: the micro-batch shrinks until it fits, the effective batch never changes."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_garden.contract.progress import Event, WarningEvent
from model_garden.contract.reasons import EXIT_CODES
from model_garden_trainer.engine.batch_size import Split, halved, largest_that_fits, out_of_memory, split_of
from model_garden_trainer.errors import TrainingError


@pytest.fixture(autouse=True)
def quick_collection() -> Iterator[None]:
    """Each failed try collects garbage: of the test alone, not of all the modules that pytest has loaded."""
    gc.freeze()
    yield
    gc.unfreeze()


def memory_for(samples: int, tried: list[int]) -> Callable[[int], None]:
    """An attempt that runs out of memory above ``samples``."""

    def attempt(size: int) -> None:
        tried.append(size)
        if size > samples:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    return attempt


@pytest.mark.parametrize(
    ("effective", "fitting", "tried", "found"),
    [
        (8, 8, [8], Split(8, 1)),
        (8, 3, [8, 4, 2], Split(2, 4)),
        (8, 1, [8, 4, 2, 1], Split(1, 8)),
        (12, 3, [12, 6, 3], Split(3, 4)),
        (7, 6, [7, 1], Split(1, 7)),
        (1, 1, [1], Split(1, 1)),
    ],
)
def test_the_first_size_that_fits_is_taken(effective: int, fitting: int, tried: list[int], found: Split) -> None:
    attempts: list[int] = []
    assert largest_that_fits(memory_for(fitting, attempts), effective, lambda _: None) == found
    assert attempts == tried


@given(st.integers(1, 4096))
def test_every_size_that_is_tried_makes_the_same_effective_batch(effective: int) -> None:
    size: int | None = effective
    sizes = []
    while size is not None:
        sizes.append(size)
        assert split_of(effective, size) == Split(size, effective // size)
        size = halved(effective, size)
    assert sizes[-1] == 1
    assert all(2 * smaller <= larger for larger, smaller in pairwise(sizes))


def test_each_halving_is_told() -> None:
    events: list[Event] = []
    largest_that_fits(memory_for(2, []), 8, events.append)
    assert [event.message for event in events if isinstance(event, WarningEvent)] == [
        "a batch of 8 rows does not fit into memory; trying a batch of 4 row(s) "
        "with 2 accumulation steps (8 rows per step, as before)",
        "a batch of 4 rows does not fit into memory; trying a batch of 2 row(s) "
        "with 4 accumulation steps (8 rows per step, as before)",
    ]


def test_where_no_sample_fits_the_run_ends_with_the_exit_code_for_it() -> None:
    with pytest.raises(TrainingError, match=r"one row does not fit.*maxPixels") as refused:
        largest_that_fits(memory_for(0, []), 4, lambda _: None)
    assert refused.value.exit_code == EXIT_CODES["OutOfMemory"]


def test_any_other_error_is_let_through() -> None:
    def attempt(size: int) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        largest_that_fits(attempt, 4, lambda _: None)


def test_memory_of_a_failed_try_is_free_for_the_next() -> None:
    class Tensor:
        living = 0

        def __init__(self) -> None:
            Tensor.living += 1

        def __del__(self) -> None:
            Tensor.living -= 1

    seen: list[int] = []

    def attempt(size: int) -> None:
        seen.append(Tensor.living)
        activations = [Tensor() for _ in range(size)]
        if len(activations) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    largest_that_fits(attempt, 4, lambda _: None)
    assert seen == [0, 0, 0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory."), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, expected: bool) -> None:
    assert out_of_memory(error) is expected


def test_a_split_that_would_change_the_effective_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="micro-batches of 3 do not make an effective batch of 8"):
        split_of(8, 3)
    assert halved(8, 1) is None
