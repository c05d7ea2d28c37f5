"""The house itself: generated files are current, and what would break it from afar is kept out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tools.generate import ROOT, stale


def test_generated_files_are_current() -> None:
    assert stale() == [], "run: make generate"


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
