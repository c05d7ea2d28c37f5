"""What to change in a job so that it needs less memory, with the memory that it needs then."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from model_garden.contract.defaults import effective_spec, merge
from model_garden.contract.fields import snake_case
from model_garden.contract.memory_estimate import RowShape
from model_garden.contract.resource import InvalidResource, parse_spec
from model_garden.contract.spec import EffectiveSpec, TrainingJobSpec
from model_garden.estimate.estimate import estimate
from model_garden.estimate.modules import Config
from model_garden.services.manifest import Job

LEAST = 0.05
"""The smallest saving that is worth a line, as a share of the memory."""


class Saving(BaseModel):
    """A change of the spec, and the memory that the job needs then."""

    spec: dict[str, Any] = Field(description="Fields to change, with their new values.")
    total_gib: float = Field(description="Expected peak of memory then, in GiB.")


def savings(job: Job, config: Config, row: RowShape | None) -> list[dict[str, Any]]:
    """Each change that saves memory, as the plain values of a ``Saving``; of several, the last is all.

    Args:
        job: a job whose memory can be estimated.
        config: the base model's parsed config.json.
        row: the largest row of the data set; None for one of ``maxSeqLength`` tokens.
    """
    spec = effective_spec(job.spec, job.name)
    now = estimate(spec, config, rows=row).total_gib
    changes = [change for change in _changes(spec) if _total(job, change, config, row) <= (1 - LEAST) * now]
    if len(changes) > 1:
        together: dict[str, Any] = {}
        for change in changes:
            together = merge(together, change)
        changes.append(together)
    return [
        {
            "spec": snake_case(change, TrainingJobSpec),
            "total_gib": round(_total(job, change, config, row), 4),
        }
        for change in changes
    ]


def fields_of(spec: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """The fields of ``Saving.spec`` by their dotted paths, and their new values."""
    found: list[tuple[str, Any]] = []
    for key, value in spec.items():
        found += fields_of(value, f"{before}{key}.") if isinstance(value, dict) else [(before + key, value)]
    return found


def _changes(spec: EffectiveSpec) -> list[dict[str, Any]]:
    """Changes that may save memory, those first that change the least about what is learned."""
    h = spec.hyperparameters
    same_batch = {"batchSize": 1, "gradientAccumulationSteps": h.batch_size * h.gradient_accumulation_steps}
    changes: list[dict[str, Any]] = [
        {"hyperparameters": same_batch},
        {"hyperparameters": {"optim": "adamw_8bit"}},
        {"quantization": "4bit"},
        {"adapter": "lora"},
        {"hyperparameters": {"maxSeqLength": h.max_seq_length // 2}},
    ]
    most = spec.pixel_bounds[1]
    return [*changes, {"imageOptions": {"maxPixels": most // 2}}] if most else changes


def _total(job: Job, change: dict[str, Any], config: Config, row: RowShape | None) -> float:
    """The expected peak with a change, in GiB; infinite if the spec allows no such change."""
    try:
        spec = effective_spec(parse_spec(merge(job.spec.to_dict(), change)), job.name)
    except InvalidResource:
        return float("inf")
    return estimate(spec, config, rows=row).total_gib
