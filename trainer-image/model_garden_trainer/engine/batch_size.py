"""``hyperparameters.autoBatchSize``: the largest micro-batch that fits, found before the first step.

The effective batch, batchSize x gradientAccumulationSteps, is the user's and never changes: a smaller
micro-batch means more accumulation steps. Losses stay the same, because they are sums over the trained tokens
of a whole optimizer step.

The caller gives a callable that runs forward and backward on the longest samples; here are the decisions and the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from model_garden.contract.progress import WarningEvent
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.events import Report


@dataclass(frozen=True)
class Split:
    """How an effective batch is taken: ``micro_batch`` samples at once, ``accumulation`` times."""

    micro_batch: int
    accumulation: int


def split_of(effective: int, micro_batch: int) -> Split:
    """``effective`` samples in micro-batches of ``micro_batch``.

    Raises:
        ValueError: ``micro_batch`` does not divide ``effective``, so that the effective batch would change.
    """
    if micro_batch < 1 or effective % micro_batch:
        raise ValueError(f"micro-batches of {micro_batch} do not make an effective batch of {effective}")
    return Split(micro_batch, effective // micro_batch)


def halved(effective: int, micro_batch: int) -> int | None:
    """The largest divisor of ``effective`` that is at most half of ``micro_batch``; None below 1.

    ``halved(8, 8)`` is 4, ``halved(12, 6)`` is 3, ``halved(7, 7)`` is 1.
    """
    return next((size for size in range(micro_batch // 2, 0, -1) if effective % size == 0), None)


def largest_that_fits(
    attempt: Callable[[int], None], effective: int, report: Report, everywhere: Callable[[bool], bool] = bool
) -> Split:
    """Try the whole effective batch at once, then half of it, and so on; the first that fits.

    Args:
        attempt: runs forward and backward on so many samples, the longest there are, and keeps nothing.
        effective: batchSize x gradientAccumulationSteps.
        report: gets a warning for each size that did not fit.
        everywhere: of several processes, whether something holds in all; a size has to fit in each.

    Raises:
        TrainingError: OutOfMemory if one row does not fit. Any other error of ``attempt`` is let through.
    """
    size = effective
    while not everywhere(_fits(attempt, size)):
        smaller = halved(effective, size)
        if smaller is None:
            raise TrainingError(
                "OutOfMemory",
                "one row does not fit into memory; lower hyperparameters.maxSeqLength or imageOptions.maxPixels and "
                "remove the rows that are longer, or use quantization: 4bit, a smaller model, or a larger GPU",
            )
        accumulation = effective // smaller
        report(
            WarningEvent(
                message=f"a batch of {size} rows does not fit into memory; trying a batch of {smaller} row(s) with "
                f"{accumulation} accumulation steps ({effective} rows per step, as before)"
            )
        )
        size = smaller
    return split_of(effective, size)


def _fits(attempt: Callable[[int], None], size: int) -> bool:
    try:
        attempt(size)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
    else:
        return True
    clear_device_cache(garbage_collection=True)  # here, where the error and the tensors of its frames are gone
    return False


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` means that a device, or the machine, has no memory left."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and (should_reduce_batch_size(error) or "CUBLAS_STATUS_ALLOC_FAILED" in str(error))
    )
