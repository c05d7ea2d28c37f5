"""Help is quick, complete, and names the flags that are promised."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from model_garden.cli.app import app
from model_garden.cli.spec_flags import BY_COMMAND, fields, flag
from model_garden.contract.fields import spec_fields
from tests.cli.conftest import Done

COMMANDS = [info.name or "" for info in app.registered_commands]
HEAVY = ("pydantic", "rich", "ruamel", "kubernetes", "aiohttp", "torch", "model_garden_trainer")


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from model_garden.cli import main\n"
        "sys.argv = ['model-garden', '--help']\n"
        "try:\n    main()\n"
        f"finally:\n    print([name for name in {HEAVY} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_lists_every_command_in_a_section(cli: Callable[..., Done]) -> None:
    shown = cli("--help").stdout
    assert all(f"\n  {name} " in shown for name in COMMANDS)
    assert shown.index("On this machine:") < shown.index("On a cluster:") < shown.index("About:")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(cli: Callable[..., Done], command: str) -> None:
    done = cli(command, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: model-garden {command} [OPTIONS]")
    assert not re.search(r"\{|\[\[|range>|x>=|<list", done.stdout)


def test_train_vision_takes_the_promised_flags(cli: Callable[..., Done]) -> None:
    shown = cli("train-vision", "--help").stdout
    promised = ("--base-model", "--dataset", "--output-dir", "--epochs", "--batch-size", "--max-steps")
    assert all(f"  {name} " in shown for name in promised)


def test_every_field_of_the_spec_has_a_flag_of_its_own() -> None:
    flags = [flag(field) for field in fields(cluster=True, vision=True)]
    assert len(flags) == len(set(flags))
    hidden = {field.path[0] for field in spec_fields()} - {field.path[0] for field in fields(cluster=True, vision=True)}
    assert hidden == set(BY_COMMAND)


def test_a_mistyped_command_is_corrected(cli: Callable[..., Done]) -> None:
    done = cli("lst")
    assert done.returncode == 2
    assert "Did you mean 'list'?" in done.stderr


def test_a_mistyped_flag_is_corrected(cli: Callable[..., Done]) -> None:
    done = cli("train", "--learing-rate", "1e-4")
    assert done.returncode == 2
    assert "--learning-rate" in done.stderr


def test_completion_names_flags_of_the_spec(cli: Callable[..., Done]) -> None:
    words = "model-garden train --gradient"
    done = cli(_MODEL_GARDEN_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD="2")
    assert done.stdout.split() == ["--gradient-accumulation-steps"]


def test_what_nobody_expects_is_one_sentence_and_its_traceback_is_in_a_file(tmp_path: Path) -> None:
    code = (
        "from model_garden.cli import app\n"
        "app.app = lambda: [][1]\n"  # a fault in the program itself
        "app.run_app()\n"
    )
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    log = tmp_path / "model-garden" / "error.log"
    assert done.returncode == 1
    assert done.stderr.startswith("error: unexpected IndexError: list index out of range") and str(log) in done.stderr
    assert "Traceback" not in done.stderr and "Traceback" in log.read_text()


def test_help_names_flags_where_the_reference_names_fields(cli: Callable[..., Done]) -> None:
    shown = " ".join(cli("train", "--help").stdout.split())
    assert "-1 trains for --epochs" in shown
    assert "--batch-size x --gradient-accumulation-steps stays the same" in shown
