"""The fingerprint holds what shapes weights, and nothing that a new version brings with its default."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from model_garden.contract.declaration import Declaration, Default
from model_garden.contract.defaults import effective_spec
from model_garden.contract.fields import SpecField, spec_fields
from model_garden.contract.resource import parse_spec
from model_garden_trainer.fingerprint import shaping_values

FIELDS = list(spec_fields())
GIVEN = {"baseModel": "org/model", "datasetPath": "./data/rows.jsonl"}


def values(**changes: Any) -> dict[str, Any]:
    return shaping_values(effective_spec(parse_spec(GIVEN | changes), "job", local_gpus=0).to_dict())


def new_field(path: tuple[str, ...], default: Any) -> SpecField:
    return SpecField(path, float, False, Declaration("New.", Default(default), str(default), True))


def test_a_field_that_a_later_version_adds_with_its_default_changes_nothing() -> None:
    spec = effective_spec(parse_spec(GIVEN), "job", local_gpus=0).to_dict()
    added = [*FIELDS, new_field(("hyperparameters", "adam_beta2"), 0.999), new_field(("method",), "sft")]
    later = spec | {"hyperparameters": spec["hyperparameters"] | {"adamBeta2": 0.999}, "method": "sft"}
    assert shaping_values(later, added) == shaping_values(spec, FIELDS)


def test_a_new_field_with_another_value_is_another_run() -> None:
    spec = effective_spec(parse_spec(GIVEN), "job", local_gpus=0).to_dict()
    added = [*FIELDS, new_field(("method",), "sft")]
    assert shaping_values(spec | {"method": "dpo"}, added)["method"] == "dpo"


@pytest.mark.parametrize(
    "changes",
    [
        {"isVision": True},
        {"baseModel": "org/other"},
        {"hyperparameters": {"learningRate": 1e-3}},
        {"hyperparameters": {"packing": True}},
        {"loraConfig": {"r": 8}},
        {"trainOn": "all"},
        {"selectiveLoss": "moderate"},
        {"validationFraction": 0.1},
    ],
)
def test_what_shapes_weights_makes_another_run(changes: dict[str, Any]) -> None:
    assert values(**changes) != values()


@pytest.mark.parametrize(
    "changes",
    [
        {"hyperparameters": {"saveSteps": 7, "loggingSteps": 3, "saveTotalLimit": 5, "autoBatchSize": True}},
        {"saveMethod": "merged_16bit"},
        {"backoffLimit": 0},
        {"health": {"stepSeconds": 5}},
        {"suspend": True},
    ],
)
def test_what_does_not_shape_weights_makes_the_same_run(changes: dict[str, Any]) -> None:
    assert values(**changes) == values()


def test_a_gpu_and_a_cpu_make_different_runs() -> None:
    on_gpu = shaping_values(effective_spec(parse_spec(GIVEN), "job").to_dict())
    assert on_gpu["quantization"] == "4bit" and on_gpu != values()


def test_every_field_says_whether_it_shapes_weights() -> None:
    silent = [field.dotted for field in FIELDS if field.declaration is None]
    assert [name for name in silent if not name.startswith(("podTemplate.", "resources."))] == []


def test_the_values_of_a_spec_stay_what_they_are() -> None:
    """A change of this digest refuses every checkpoint that was made before it."""
    digest = hashlib.sha256(json.dumps(values(isVision=True), sort_keys=True).encode()).hexdigest()
    assert digest[:16] == "56b2768f6d9ed6f5"
