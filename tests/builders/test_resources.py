"""Requests and limits of the trainer container."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from model_garden.builders.job import job
from model_garden.builders.plan import check
from model_garden.builders.resources import amount_of, preflight_resources, training_resources
from model_garden.contract.resource import InvalidResource
from model_garden.contract.trainer_config import TrainerConfig, for_record, parse_config
from tests.controller.builders import CLAIMS, SETTINGS, plan


@pytest.mark.parametrize(
    ("resources", "limits", "requests"),
    [
        (None, {"nvidia.com/gpu": 1}, {"cpu": "2", "memory": "8Gi"}),
        ({"limits": {"nvidia.com/gpu": 0}}, {}, {"cpu": "500m", "memory": "1Gi"}),
        ({"limits": {"nvidia.com/gpu": "0", "memory": "4Gi"}}, {"memory": "4Gi"}, {"cpu": "500m"}),
        (
            {"limits": {"nvidia.com/gpu": 2}, "requests": {"cpu": 8, "memory": "64Gi"}},
            {"nvidia.com/gpu": 2},
            {"cpu": 8, "memory": "64Gi"},
        ),
        ({"limits": {"nvidia.com/mig-1g.10gb": 1}}, {"nvidia.com/mig-1g.10gb": 1}, {"cpu": "2", "memory": "8Gi"}),
        ({"limits": {"amd.com/gpu": 2, "cpu": 8}}, {"amd.com/gpu": 2, "cpu": 8}, {"memory": "8Gi"}),
        ({"limits": {"amd.com/gpu": 0}}, {}, {"cpu": "500m", "memory": "1Gi"}),
    ],
    ids=[
        "one GPU by default",
        "no GPU is left out",
        "a limit is its own request",
        "what is given is kept",
        "a MIG slice",
        "GPUs of AMD",
        "no GPU of AMD is left out",
    ],
)
def test_training_gets_what_the_spec_gives(resources: Any, limits: Any, requests: Any) -> None:
    spec = plan(**({"resources": resources} if resources else {})).spec
    assert training_resources(spec) == {"limits": limits, "requests": requests}


def test_a_claim_is_a_gpu_of_training_and_not_of_the_preflight() -> None:
    resources = {"claims": [{"name": "gpu", "request": "one"}, {"name": "gpu", "request": "two"}]}
    made = plan(resources=resources, podTemplate=CLAIMS)
    assert made.spec.gpus == 2 and made.needs_preflight
    for step, claims in (("train", CLAIMS["resourceClaims"]), ("preflight", None)):
        pod = job(replace(made, step=step), SETTINGS)["spec"]["template"]["spec"]  # type: ignore[arg-type]
        assert pod.get("resourceClaims") == claims
        assert pod["containers"][0]["resources"].get("claims") == (claims and resources["claims"])
        assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["limits"]
    config = TrainerConfig(name="x", spec=made.spec)
    assert parse_config(config.model_dump_json(by_alias=True, exclude_none=True)).spec.gpus == 2
    assert not {"podTemplate", "claims"} & (for_record(made.spec).keys() | for_record(made.spec)["resources"].keys())


@pytest.mark.parametrize(
    ("given", "limits", "requests"),
    [
        ({}, {"cpu": "2", "memory": "8Gi"}, {"cpu": "500m", "memory": "1Gi"}),
        ({"cpu": "1", "memory": "4Gi"}, {"cpu": "1", "memory": "4Gi"}, {"cpu": "500m", "memory": "1Gi"}),
        ({"cpu": "0.1", "memory": "512Mi"}, {"cpu": "0.1", "memory": "512Mi"}, {"cpu": "0.1", "memory": "512Mi"}),
        ({"cpu": 64, "memory": "1Ti"}, {"cpu": 64, "memory": "1Ti"}, {"cpu": "500m", "memory": "1Gi"}),
    ],
    ids=["limits of its own", "the limits of training", "never above its limits", "little of a large machine"],
)
def test_a_preflight_pod_always_has_limits_and_asks_for_no_gpu(given: Any, limits: Any, requests: Any) -> None:
    """A ResourceQuota that counts limits refuses a pod without them."""
    spec = plan(resources={"limits": {"nvidia.com/gpu": 8, **given}}).spec
    assert preflight_resources(spec) == {"limits": limits, "requests": requests}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("500m", "0.5"),
        (2, "2"),
        ("8Gi", str(8 * 2**30)),
        ("1G", "1e9"),
        ("1.5k", "1500"),
        ("1e3", "1e3"),
        ("2E", "2e18"),
    ],
)
def test_quantities(text: int | str, number: str) -> None:
    assert amount_of(text) == Decimal(number)


def test_an_amount_that_is_no_quantity_is_named_before_a_job_is_made() -> None:
    with pytest.raises(InvalidResource) as error:
        check(plan(resources={"limits": {"memory": "8 gigabytes"}, "requests": {"cpu": "two"}}))
    assert error.value.problems == [
        "spec.resources.requests.cpu: 'two' is not a Kubernetes quantity; use a number with a unit, such as 500m or "
        "8Gi",
        "spec.resources.limits.memory: '8 gigabytes' is not a Kubernetes quantity; use a number with a unit, such as "
        "500m or 8Gi",
    ]
