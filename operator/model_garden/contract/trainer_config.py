"""What a Job hands its trainer, as JSON in one environment variable; ``model-garden run`` hands the same."""

from __future__ import annotations

from pydantic import ValidationError

from model_garden.contract.model import ContractModel, explain
from model_garden.contract.spec import TrainingJobSpec


class TrainerConfig(ContractModel):
    """A job's name and its effective spec: every default applied, so that the trainer has no table of its own."""

    name: str
    spec: TrainingJobSpec


def parse_config(text: str) -> TrainerConfig:
    """Read a config's JSON.

    Raises:
        ValueError: one line for each field that is wrong.
    """
    try:
        return TrainerConfig.model_validate_json(text)
    except ValidationError as error:
        raise ValueError("\n".join(explain(error, TrainerConfig, root=""))) from error
