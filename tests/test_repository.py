"""The version stands in one file, the package holds only the product, and nothing shadows or loads what it must not."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from model_garden import __version__
from tests.scheduling import CLUSTERS, TRAININGS
from tools.generate import GENERATED, ROOT


def test_the_version_is_written_by_hand_in_one_file_alone() -> None:
    source = Path("operator/model_garden/__init__.py")
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    generated = {path.relative_to(ROOT) for path, _ in GENERATED}
    allowed = {source, Path("CHANGELOG.md"), *generated}
    pins = ("uv.lock", "go.mod", "go.sum")
    others = [Path(name) for name in tracked if not name.startswith("tests/") and not name.endswith(pins)]
    version = re.compile(rf"(?<![\d.]){re.escape(__version__)}(?![\d.])")
    naming = [
        path
        for path in others
        if (ROOT / path).is_file() and version.search((ROOT / path).read_bytes().decode(errors="ignore"))
    ]
    assert set(naming) <= allowed, "write the version in model_garden/__init__.py alone; make generate copies it"
    assert source in naming


def test_the_tests_that_have_a_place_in_the_order_are_there() -> None:
    assert [name for name in (*CLUSTERS, *TRAININGS) if not (ROOT / name).exists()] == [], "tests/scheduling.py"


def test_the_wheel_holds_the_product_alone() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert wheel == ["operator/model_garden", "trainer-image/model_garden_trainer"]
    assert list(project["project"]["scripts"]) == ["model-garden"]
    assert all((ROOT / package / "py.typed").exists() for package in wheel)


@pytest.mark.parametrize("member", ["pyproject.toml", "devcluster/pyproject.toml"])
def test_published_metadata_accepts_ranges(member: str) -> None:
    project = tomllib.loads((ROOT / member).read_text())["project"]
    required = [
        *project["dependencies"],
        *(name for extra in project.get("optional-dependencies", {}).values() for name in extra),
    ]
    assert [name for name in required if "==" in name.partition(";")[0]] == [], (
        "uv.lock pins versions; the metadata gives ranges"
    )
    assert "<" not in project["requires-python"]


def test_the_operator_folder_never_shadows_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists(), (
        "operator/ is a source root; Python has a module of that name"
    )
    code = "import operator; print(operator.__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert ROOT not in Path(found).parents


def test_the_help_of_the_command_line_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'kubernetes', 'pydantic', 'ruamel', 'kopf', 'aiohttp'}"
    code = (
        "import sys\nsys.argv = ['model-garden', '--help']\nfrom model_garden.cli import main\n"
        f"try:\n    main()\nexcept SystemExit:\n    pass\nprint(sorted({heavy} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.splitlines()[-1] == "[]"


IMPORTED_AS = {
    "PIL": "pillow",
    "mlflow": "mlflow-skinny",
    "opentelemetry": "opentelemetry-sdk",
    "pydantic_core": "pydantic",
    "ruamel": "ruamel.yaml",
}
"""Modules of a package with another name, beside ``_`` for ``-``."""
EXTRAS = {
    "operator/model_garden": ("operator", "api", "tracing", "trainer"),
    "trainer-image/model_garden_trainer": ("trainer", "trainer-gpu", "trackers", "harness"),
}


@pytest.mark.parametrize("folder", EXTRAS)
def test_the_metadata_names_each_package_that_is_imported(folder: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    required = [*project["dependencies"], *(each for extra in EXTRAS[folder] for each in extras[extra])]
    declared = {re.split(r"[<>=\[; ]", each)[0] for each in required}
    imported = {
        IMPORTED_AS.get(module, module.replace("_", "-"))
        for path in (ROOT / folder).rglob("*.py")
        for module in _imports(path)
        if module not in sys.stdlib_module_names and not module.startswith("model_garden")
    }

    assert imported - declared == set(), "add them to pyproject.toml"


def _imports(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name.split(".")[0] for name in plain | {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)}}
