"""What a memory estimate says, part by part: what a preflight reports and ``status.estimate`` shows.

``model_garden.estimate`` makes it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PlainSerializer

from model_garden.contract.model import Report

GIB = 2**30

Gib = Annotated[float, PlainSerializer(lambda size: round(size, 4), return_type=float)]
"""Gibibytes, written with four digits: a tenth of a MiB is far below what an estimate knows."""


class Part(Report):
    """One part of the memory in GiB, with its bounds and one sentence on how it came about."""

    name: str
    size_gib: Gib = Field(alias="sizeGiB", ge=0)
    min_gib: Gib = Field(alias="minGiB", ge=0)
    max_gib: Gib = Field(alias="maxGiB", ge=0)
    detail: str


class RowShape(Report):
    """The largest row of a data set, in tokens, pictures included; ``trainedTokens`` carry loss, all unless given."""

    tokens: int = Field(ge=1)
    trained_tokens: int | None = Field(None, ge=0)
    image_tokens: int = Field(0, ge=0)


class Estimate(Report):
    """Peak memory in GiB of one GPU, or on a CPU of the process.

    ``minGiB`` is what the job cannot do without; ``reservedGiB`` is the share that PyTorch's own counters show
    (``max_memory_reserved``), to set beside a measured peak; ``smallestGpu`` is the smallest common GPU that should do,
    in GB as makers name it: None on a CPU, and where none does. A batch is ``batchSize`` rows of ``tokensPerRow``
    tokens, ``imageTokensPerRow`` of them pictures'.
    """

    memory: Literal["GPU", "Host"]
    parts: list[Part]
    total_gib: Gib = Field(alias="totalGiB")
    min_gib: Gib = Field(alias="minGiB")
    max_gib: Gib = Field(alias="maxGiB")
    reserved_gib: Gib = Field(alias="reservedGiB")
    smallest_gpu: int | None = None
    parameters: int
    trained_parameters: int
    batch_size: int
    tokens_per_row: int
    image_tokens_per_row: int
    assumptions: list[str]
