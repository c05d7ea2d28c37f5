"""What a Job hands its trainer, as JSON in one environment variable; ``model-garden run`` hands the same."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError, field_validator

from model_garden.contract.model import ContractModel, explain
from model_garden.contract.spec import EffectiveSpec


class TrainerConfig(ContractModel):
    """A job's name and its effective spec: every default applied, so that the trainer has no table of its own.

    What is the pod's alone is taken out of whatever spec is given (``for_trainer``).
    """

    name: str
    spec: EffectiveSpec

    @field_validator("spec")
    @classmethod
    def _nothing_of_the_pod(cls, spec: EffectiveSpec) -> EffectiveSpec:
        return for_trainer(spec)


def for_trainer(spec: EffectiveSpec) -> EffectiveSpec:
    """``spec`` without ``podTemplate``: its variables may hold keys, and what a trainer is told may be written down."""
    return spec.model_copy(update={"pod_template": None})


def for_record(spec: EffectiveSpec) -> dict[str, Any]:
    """``spec`` in camelCase as a run writes it beside its model, and so to the Hub: without what is the cluster's own,
    the names of claims and Secrets included."""
    given = for_trainer(spec).to_dict()
    return {key: value for key, value in given.items() if key not in ("storage", "hubTokenSecret")}


def parse_config(text: str) -> TrainerConfig:
    """Read a config's JSON.

    Raises:
        ValueError: one line for each field that is wrong.
    """
    try:
        return TrainerConfig.model_validate_json(text)
    except ValidationError as error:
        raise ValueError("\n".join(explain(error, TrainerConfig, root=""))) from error
