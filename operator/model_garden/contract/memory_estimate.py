"""A memory estimate, part by part: a preflight reports it, and ``status.estimate`` shows it.

``model_garden.estimate`` computes it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PlainSerializer

from model_garden.contract.model import Report

GIB = 2**30

Gib = Annotated[float, PlainSerializer(lambda size: round(size, 4), return_type=float)]
"""GiB, written with four decimal digits: an estimate is less precise than a tenth of a MiB."""


class Part(Report):
    """One part of the memory in GiB, with its bounds and how it is computed."""

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
    """The largest row of a data set."""

    tokens: int = Field(ge=1)
    """Length in tokens, image tokens included."""
    trained_tokens: int | None = Field(None, ge=0)
    """Tokens to train on. Default: all."""
    image_tokens: int = Field(0, ge=0)
    """Tokens of images."""


class Estimate(Report):
    """Estimated peak memory of one GPU, or without a GPU of the process, for a batch of ``batchSize`` rows of
    ``tokensPerRow`` tokens each."""

    memory: Literal["GPU", "Host"]
    """What is estimated: memory of one GPU, or of the host."""
    parts: list[Part]
    """Parts of the estimate."""
    total_gib: Gib = Field(alias="totalGiB")
    """Expected peak in GiB."""
    min_gib: Gib = Field(alias="minGiB")
    """Memory in GiB without which the job cannot run."""
    max_gib: Gib = Field(alias="maxGiB")
    """Upper bound of the peak at the estimated batch size, in GiB."""
    reserved_gib: Gib = Field(alias="reservedGiB")
    """Part of the total that PyTorch's max_memory_reserved measures, in GiB. Compare it with a measured peak."""
    smallest_gpu: int | None = None
    """Smallest common GPU size that should be enough, in GB as vendors name it."""
    parameters: int
    """Parameters of the base model."""
    trained_parameters: int
    """Trained parameters."""
    batch_size: int
    """Micro-batch size that the estimate assumes, in rows."""
    tokens_per_row: int
    """Tokens that the estimate assumes for a row."""
    image_tokens_per_row: int
    """Image tokens that the estimate assumes for a row."""
    assumptions: list[str]
    """Assumptions where nothing was measured."""
