"""The CRD on a real API server: it takes every example, refuses each bad spec, and keeps what may not change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from model_garden.contract.crd import custom_resource_definition
from model_garden.contract.names import API_VERSION, KIND
from model_garden.contract.resource import parse_resource
from tests.cluster import TestCluster
from tests.contract.cases import BASE, BROKEN, OUTSIDE, broken

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "manifests" / "examples").glob("*.yaml"))


@pytest.fixture(scope="module")
def crd(cluster: TestCluster) -> TestCluster:
    cluster.serve_training_jobs()
    return cluster


def apply(cluster: TestCluster, spec: dict[str, Any], name: str = "case", dry_run: bool = True) -> str | None:
    """Apply a TrainingJob; None when it was taken, else what the server said."""
    resource = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}
    flags = ["--dry-run=server"] if dry_run else []
    done = cluster.try_kubectl("apply", *flags, "-f", "-", content=json.dumps(resource))
    return done.stderr if done.returncode else None


def test_the_committed_crd_is_the_generated_one() -> None:
    committed = YAML(typ="safe").load((ROOT / "manifests" / "crd.yaml").read_text())
    assert committed == custom_resource_definition(), "run: make generate"


def test_no_defaults_that_gitops_would_see_as_drift() -> None:
    schema = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert '"default":' not in json.dumps(schema["properties"]["spec"])


@pytest.mark.cluster
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_taken(crd: TestCluster, example: Path) -> None:
    crd.kubectl("apply", "--dry-run=server", "-f", str(example))
    parse_resource(YAML(typ="safe", pure=True).load(example.read_text()))


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("changes", "field"),
    [case[1:3] for case in BROKEN if case[3]] + [case[1:] for case in OUTSIDE],
    ids=[case[0] for case in BROKEN if case[3]] + [case[0] for case in OUTSIDE],
)
def test_the_api_server_refuses_what_the_operator_would(crd: TestCluster, changes: dict[str, Any], field: str) -> None:
    refusal = apply(crd, broken(changes))
    assert refusal is not None, "the server took it"
    assert field in refusal


@pytest.mark.cluster
def test_only_suspend_and_ttl_may_change(crd: TestCluster) -> None:
    spec = BASE | {"podTemplate": {"affinity": {"nodeAffinity": {"x": 1}}}}
    assert apply(crd, spec, "immutable", dry_run=False) is None
    assert apply(crd, spec | {"suspend": True, "ttlSecondsAfterFinished": 60}, "immutable") is None
    for changes in (
        {"baseModel": "org/other"},
        {"hyperparameters": {"seed": 1}},
        {"podTemplate": {"affinity": {"nodeAffinity": {"x": 2}}}},
    ):
        refusal = apply(crd, spec | changes, "immutable")
        assert refusal and f"spec.{next(iter(changes))}" in refusal and "field is immutable" in refusal
    crd.kubectl("delete", "trainingjob", "immutable")


def _leaves(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, child in node.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from _leaves(child.get("items", child), f"{path}.{name}")


def test_kubectl_explain_says_what_every_field_of_the_status_means() -> None:
    status = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    found = list(_leaves(status, "status"))
    assert len(found) > 80
    assert [path for path, field in found if not field.get("description")] == []
