"""PURE but for helm: the objects that a YAML block of the documentation stands for."""

from __future__ import annotations

import json
from typing import Any

from ruamel.yaml import YAML

from model_garden.contract.spec import TrainingJobSpec
from tests.chart.test_chart import helm
from tests.cluster import Object
from tests.docs.blocks import Block
from tools.generate import CHART

JOBS = "research"
"""The namespace of jobs."""
JOB: Object = {"apiVersion": "model-garden.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "example"}}
SPEC: Object = {"baseModel": "Qwen/Qwen2.5-3B-Instruct", "datasetPath": "./data/rows.jsonl"}
FIELDS = {field.alias or name for name, field in TrainingJobSpec.model_fields.items()}
VALUES = set(YAML(typ="safe").load(CHART / "values.yaml"))
NOT_SERVED = {"argoproj.io", "kustomize.toolkit.fluxcd.io"}
"""Groups of kinds whose schema no test has. tests/gitops runs their expressions."""


def objects(block: Block) -> list[Object]:
    """The objects that a block stands for; without those of a kind that is not served."""
    return [item for document in YAML(typ="safe").load_all(block.text) for item in _whole(document, block)]


def _whole(document: Any, block: Block) -> list[Object]:
    keys = set(document)
    if "kind" in keys:
        assert {"apiVersion", "kind", "metadata", "spec"} <= keys | {"spec"}, block
        return [] if document["apiVersion"].partition("/")[0] in NOT_SERVED else [document]
    if keys <= {"metadata", "spec"}:
        return [
            JOB | {"metadata": JOB["metadata"] | document.get("metadata", {}), "spec": SPEC | document.get("spec", {})}
        ]
    if keys <= FIELDS:
        return [JOB | {"spec": SPEC | document}]
    if keys == {"rules"}:
        return [
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "example"}} | document
        ]
    assert keys <= VALUES, f"{block} is neither an object, nor a part of a TrainingJob, nor values of the chart: {keys}"
    flags = [flag for key, value in document.items() for flag in ("--set-json", f"{key}={json.dumps(value)}")]
    done = helm("template", "release", str(CHART), "--namespace", JOBS, "--set", "crds.install=false", *flags)
    assert done.returncode == 0, f"{block}: {done.stderr}"
    return [made for made in YAML(typ="safe").load_all(done.stdout) if made]
