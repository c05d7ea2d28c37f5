"""The trainer's config, which a Job and ``model-garden run`` pass as JSON in one environment variable."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError, field_validator

from model_garden.contract.model import ContractModel, explain
from model_garden.contract.pod import PodTemplate
from model_garden.contract.spec import EffectiveSpec


class TrainerConfig(ContractModel):
    """The name and the effective spec of a job. The trainer applies no defaults.

    ``for_trainer`` is applied to the spec. ``fetched`` is ``status.fetched``: what training has to read. ``uid`` is the
    TrainingJob's, None without one.
    """

    name: str
    spec: EffectiveSpec
    fetched: dict[str, str] | None = None
    uid: str | None = Field(None, pattern="^[0-9A-Za-z-]+$")

    @field_validator("spec")
    @classmethod
    def _without_pod_template(cls, spec: EffectiveSpec) -> EffectiveSpec:
        return for_trainer(spec)


def for_trainer(spec: EffectiveSpec) -> EffectiveSpec:
    """``spec`` without ``podTemplate``, whose variables may hold secrets: the trainer may print or save its config.

    Its claims of devices stay, since ``resources.claims`` names them.
    """
    claims = spec.pod_template.resource_claims if spec.pod_template else None
    return spec.model_copy(update={"pod_template": PodTemplate(resource_claims=claims) if claims else None})


def for_record(spec: EffectiveSpec) -> dict[str, Any]:
    """``spec`` in camelCase as a run saves it beside its model and on the Hub: without names of claims and Secrets."""
    given = for_trainer(spec).to_dict()
    given.get("tracking", {}).pop("secret", None)
    given.get("resources", {}).pop("claims", None)
    return {key: value for key, value in given.items() if key not in ("storage", "hubTokenSecret", "podTemplate")}


def parse_config(text: str) -> TrainerConfig:
    """Read a config from JSON.

    Raises:
        ValueError: one line for each field that is wrong.
    """
    try:
        return TrainerConfig.model_validate_json(text)
    except ValidationError as error:
        raise ValueError("\n".join(explain(error, TrainerConfig, root=""))) from error
