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
    """Name of the part."""
    size_gib: Gib = Field(alias="sizeGiB", ge=0)
    """Expected size in GiB."""
    min_gib: Gib = Field(alias="minGiB", ge=0)
    """Smallest possible size in GiB."""
    max_gib: Gib = Field(alias="maxGiB", ge=0)
    """Largest possible size in GiB."""
    detail: str
    """How the size is computed."""


class RowShape(Report):
    """The largest row of a data set, in tokens, pictures included; ``trainedTokens`` carry loss, all unless given."""

    tokens: int = Field(ge=1)
    """Length in tokens, image tokens included."""
    trained_tokens: int | None = Field(None, ge=0)
    """Tokens that carry loss; all unless given."""
    image_tokens: int = Field(0, ge=0)
    """Tokens of images."""


class Estimate(Report):
    """Peak memory in GiB of one GPU, or on a CPU of the process.

    ``minGiB`` is what the job cannot do without; ``reservedGiB`` is the share that PyTorch's own counters show
    (``max_memory_reserved``), to set beside a measured peak; ``smallestGpu`` is the smallest common GPU that should do,
    in GB as makers name it: None on a CPU, and where none does. A batch is ``batchSize`` rows of ``tokensPerRow``
    tokens, ``imageTokensPerRow`` of them pictures'.
    """

    memory: Literal["GPU", "Host"]
    """What is estimated: memory of one GPU, or of the host."""
    parts: list[Part]
    """Parts of the estimate."""
    total_gib: Gib = Field(alias="totalGiB")
    """Expected peak in GiB."""
    min_gib: Gib = Field(alias="minGiB")
    """Memory in GiB without which the job cannot run."""
    max_gib: Gib = Field(alias="maxGiB")
    """Largest possible peak in GiB."""
    reserved_gib: Gib = Field(alias="reservedGiB")
    """Share that PyTorch's max_memory_reserved shows, in GiB."""
    smallest_gpu: int | None = None
    """Smallest common GPU that should do, in GB as makers name it."""
    parameters: int
    """Parameters of the base model."""
    trained_parameters: int
    """Parameters that are trained."""
    batch_size: int
    """Rows of a micro-batch."""
    tokens_per_row: int
    """Tokens of a row."""
    image_tokens_per_row: int
    """Image tokens of a row."""
    assumptions: list[str]
    """What was assumed where nothing was measured."""
