"""What GitOps tools say about a TrainingJob: their own code, built from the module in ``go/``.

``go build`` makes the program on first use: three to five minutes on two cores, most of it Argo CD.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.go_programs import built

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
MODULE = Path(__file__).parent / "go"
ARGOCD = ROOT / "manifests" / "argocd" / "argocd-cm.yaml"
GUIDE = ROOT / "docs" / "gitops.md"


@dataclass(frozen=True)
class Judgement:
    """Of one object: kstatus and Flux's health check (InProgress, Current, Failed); Argo CD's health and actions."""

    kstatus: str
    kstatus_message: str
    flux: str
    health: str
    health_message: str
    actions: dict[str, Object]
    """The merge patch of each resource action that Argo CD offers."""


def judge(objects: Sequence[Object]) -> list[Judgement]:
    """What the tools say about each object, with the settings that the project ships and documents."""
    request = {"argocd": load(ARGOCD.read_text())["data"], "flux": flux_expressions(), "objects": objects}
    done = subprocess.run([program()], input=json.dumps(request), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [
        Judgement(
            kstatus=found["kstatus"],
            kstatus_message=found["kstatusMessage"],
            flux=found["flux"],
            health=found["health"],
            health_message=found["healthMessage"],
            actions=found["actions"],
        )
        for found in json.loads(done.stdout)
    ]


def flux_expressions() -> Object:
    """``healthCheckExprs`` of the Kustomization in the guide."""
    (kustomization,) = [one for one in guide_manifests() if "kustomize.toolkit.fluxcd.io" in one["apiVersion"]]
    (expressions,) = kustomization["spec"]["healthCheckExprs"]
    assert (expressions["apiVersion"], expressions["kind"]) == ("model-garden.dev/v1alpha1", "TrainingJob")
    return {key: value for key, value in expressions.items() if key not in ("apiVersion", "kind")}


def guide_manifests() -> list[Object]:
    """Every YAML block of the guide that is a whole object."""
    blocks = [block.split("```")[0] for block in GUIDE.read_text().split("```yaml\n")[1:]]
    return [found for block in blocks if "kind" in (found := load(block))]


def load(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def program() -> Path:
    """The program, built on first use."""
    return built("judge", MODULE, "gitops", ("main.go", "go.mod", "go.sum"), ".")
