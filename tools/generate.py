"""Rewrites, or with --check compares, every file that is generated from another one.

Every file that names the version gets it from ``model_garden.__version__``. ``manifests/crd.yaml``, the chart's copy
and docs/reference/spec.md come from the models, ``manifests/operator.yaml`` from the chart, and four tables in guides
from the registry of row formats, the form's use cases, the table of failure reasons and the memory estimate.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ruamel.yaml import YAML

from devcluster.binaries import ensure_binaries
from model_garden import __version__
from model_garden.contract import reasons
from model_garden.contract.crd import custom_resource_definition
from model_garden.web.examples import use_case_table
from tools.permissions import permissions_reference, permissions_yaml
from tools.reference.chart import chart_reference
from tools.reference.cli import cli_reference
from tools.reference.environment import environment_reference
from tools.reference.events import events_reference
from tools.reference.known_faults import known_faults_reference
from tools.reference.metrics import metrics_reference
from tools.reference.rest import rest_reference
from tools.reference.settings import settings_reference
from tools.reference.sizing import sizing_table
from tools.reference.spec import spec_reference
from tools.reference.status import status_reference

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts" / "model-garden"
CRD_HEADER = "# Generated from the models by `make generate`; change operator/model_garden/contract, not this file.\n"
OPERATOR_HEADER = "# Rendered from charts/model-garden by `make generate`; change the chart, not this file.\n"
NAMESPACE = "model-garden"
FORMATS = re.compile(r"(<!-- formats:begin -->\n).*?(<!-- formats:end -->)", re.DOTALL)
USE_CASES = re.compile(r"(<!-- use-cases:begin -->\n).*?(<!-- use-cases:end -->)", re.DOTALL)
SIZES = re.compile(r"(<!-- sizing:begin -->\n).*?(<!-- sizing:end -->)", re.DOTALL)
REASONS = re.compile(r"(<!-- reasons:begin -->\n).*?(<!-- reasons:end -->)", re.DOTALL)
VERSION = re.compile(r"(^(?:version|appVersion): |/(?:operator|trainer):)\d+\.\d+\.\d+\S*?(?=[`\s)])", re.MULTILINE)
WITH_VERSION = [
    CHART / "Chart.yaml",
    ROOT / "demo" / "manifests" / "job.yaml",
    ROOT / "kustomize" / "example" / "operator.yaml",
    ROOT / "README.md",
    ROOT / "docs" / "data.md",
    ROOT / "docs" / "install.md",
]
TROUBLESHOOT = ROOT / "docs" / "troubleshoot.md"
SIZING = ROOT / "docs" / "sizing.md"
REFERENCE = ROOT / "docs" / "reference"
VISION_GUIDE = ROOT / "docs" / "08-vision-language-training.md"


def crd() -> str:
    """The CRD as YAML."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 120
    text = io.StringIO()
    yaml.dump(custom_resource_definition(), text)
    return CRD_HEADER + text.getvalue()


def operator() -> str:
    """All objects of the chart with its default values, the namespace first, so that one apply installs everything."""
    helm = ensure_binaries(_say, ["helm"]) / "helm"
    command = [str(helm), "template", "model-garden", str(CHART), "--namespace", NAMESPACE]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    namespace = f"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n"
    return OPERATOR_HEADER + "---\n" + namespace + rendered


def vision_guide() -> str:
    """The guide to vision-language training with current tables of row formats and use cases."""
    from model_garden.datasets import formats  # reads tokenizers, which the other files do not need

    text = FORMATS.sub(lambda found: found[1] + formats.markdown_table() + "\n" + found[2], VISION_GUIDE.read_text())
    return USE_CASES.sub(lambda found: found[1] + use_case_table() + "\n" + found[2], text)


def output_folder() -> str:
    """The page of the output folder."""
    from tools.reference.output_folder import output_folder_reference  # reads the trainer, as above

    return output_folder_reference()


def troubleshoot() -> str:
    """The page of reasons with a current table of failures."""
    return REASONS.sub(lambda found: found[1] + reasons.markdown_table() + "\n" + found[2], TROUBLESHOOT.read_text())


def sizing() -> str:
    """The page of sizes with current estimates."""
    return SIZES.sub(lambda found: found[1] + sizing_table() + "\n" + found[2], SIZING.read_text())


def with_version(path: Path) -> str:
    """The file at ``path`` with the current version of the chart and of both images."""
    return VERSION.sub(lambda found: found[1] + __version__, path.read_text())


GENERATED: list[tuple[Path, Callable[[], str]]] = [
    *((path, partial(with_version, path)) for path in WITH_VERSION),  # first: operator.yaml is rendered from the chart
    (ROOT / "manifests" / "crd.yaml", crd),
    (CHART / "files" / "crd.yaml", crd),
    (CHART / "files" / "permissions.yaml", permissions_yaml),
    (ROOT / "manifests" / "operator.yaml", operator),
    (ROOT / "docs" / "03-api-specification.md", rest_reference),
    (REFERENCE / "spec.md", spec_reference),
    (REFERENCE / "status.md", status_reference),
    (REFERENCE / "cli.md", cli_reference),
    (REFERENCE / "events.md", events_reference),
    (REFERENCE / "output-folder.md", output_folder),
    (REFERENCE / "environment.md", environment_reference),
    (REFERENCE / "metrics.md", metrics_reference),
    (REFERENCE / "known-faults.md", known_faults_reference),
    (REFERENCE / "operator-settings.md", settings_reference),
    (REFERENCE / "permissions.md", permissions_reference),
    (CHART / "README.md", partial(chart_reference, CHART / "values.yaml")),
    (VISION_GUIDE, vision_guide),
    (TROUBLESHOOT, troubleshoot),
    (SIZING, sizing),
]


def stale() -> list[Path]:
    """The generated files that are not what their sources say now."""
    return [path for path, generate in GENERATED if not path.exists() or path.read_text() != generate()]


def main(arguments: list[str]) -> int:
    """Write all, or with --check list what is stale and return 1."""
    if arguments == ["--check"]:
        old = stale()
        for path in old:
            print(f"{path.relative_to(ROOT)} is stale; run: make generate", file=sys.stderr)
        return 1 if old else 0
    for path, generate in GENERATED:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(generate())
        print(path.relative_to(ROOT))
    return 0


def _say(message: str) -> None:
    print(message, file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
