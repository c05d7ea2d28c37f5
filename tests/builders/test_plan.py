"""The plan of a job that an earlier operator accepted."""

import json
from typing import Any

import pytest

from model_garden.builders.job import job
from model_garden.builders.plan import accepted_plan, plan
from model_garden.contract.resource import InvalidResource
from tests.controller import builders as b

Object = dict[str, Any]

REFUSED: Object = {"hyperparameters": {"evalSteps": 5}}
"""Needs validation rows."""


def accepted(**status: Any) -> Object:
    """A TrainingJob that today's rules refuse, with what was recorded of it when they did not."""
    effective = b.plan(ttlSecondsAfterFinished=60).spec.to_dict()
    effective["hyperparameters"] |= REFUSED["hyperparameters"]
    return b.resource(**REFUSED, suspend=True) | {"status": {"effectiveSpec": effective | status}}


def test_a_new_rule_does_not_apply_to_a_job_that_was_accepted() -> None:
    resource = accepted()
    with pytest.raises(InvalidResource, match="needs validation rows"):
        plan(resource, b.SETTINGS)
    found = accepted_plan(resource)
    assert found and found.spec.hyperparameters.eval_steps == 5
    assert found.spec.suspend is True, "what may change is read from the spec"
    assert found.spec.ttl_seconds_after_finished is None, "and was removed from it"
    container = job(found, b.SETTINGS)["spec"]["template"]["spec"]["containers"][0]
    config = next(v["value"] for v in container["env"] if v["name"] == "MODEL_GARDEN_CONFIG")
    assert json.loads(config)["spec"]["hyperparameters"]["evalSteps"] == 5


def test_what_was_accepted_and_cannot_be_read_gives_no_plan() -> None:
    assert accepted_plan(b.resource()) is None
    assert accepted_plan(accepted(lostField=1)) is None
