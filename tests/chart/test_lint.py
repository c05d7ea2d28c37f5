"""What ``helm lint`` and the linters of chart-testing (``ct lint``) find, and what the chart says of itself."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yamale
from ruamel.yaml import YAML
from yamllint import linter
from yamllint.config import YamlLintConfig

from model_garden.contract import names
from tests.chart.test_chart import helm
from tools.chart import name_source
from tools.generate import CHART, ROOT

CHART_TESTING = Path(__file__).parent / "chart_testing"


def chart() -> dict[str, Any]:
    read: dict[str, Any] = YAML(typ="safe").load(CHART / "Chart.yaml")
    return read


def test_helm_finds_nothing_to_complain_about() -> None:
    answer = helm("lint", "--strict", str(CHART))
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize("name", ["Chart.yaml", "values.yaml"])
def test_yamllint_finds_nothing_with_the_rules_of_chart_testing(name: str) -> None:
    rules = YamlLintConfig(file=str(CHART_TESTING / "lintconf.yaml"))
    assert [str(problem) for problem in linter.run((CHART / name).read_text(), rules)] == []


def test_a_released_chart_has_the_metadata_of_chart_testing(tmp_path: Path) -> None:
    """A release names its repository, which a checkout does not know."""
    released = Path(shutil.copy(CHART / "Chart.yaml", tmp_path))
    name_source(released, "https://git.test/team/model-garden")
    schema = yamale.make_schema(CHART_TESTING / "chart_schema.yaml")
    yamale.validate(schema, yamale.make_data(released))
    source = {"home": "https://git.test/team/model-garden", "sources": ["https://git.test/team/model-garden"]}
    assert YAML(typ="safe").load(released) == chart() | source


def test_the_metadata_agrees_with_the_project() -> None:
    read = chart()
    notes = {key.removeprefix("artifacthub.io/"): text for key, text in read["annotations"].items()}
    [crd] = YAML(typ="safe").load(notes["crds"])
    assert (crd["kind"], crd["version"], crd["name"]) == (names.KIND, names.VERSION, f"{names.PLURAL}.{names.GROUP}")
    citation = YAML(typ="safe").load(ROOT / "CITATION.cff")
    assert read["maintainers"] == citation["authors"]
    assert notes["license"] == citation["license"]
    oldest = read["kubeVersion"].removeprefix(">=").removesuffix(".0-0")
    assert f"Kubernetes {oldest} or newer" in (ROOT / "docs" / "install.md").read_text()
