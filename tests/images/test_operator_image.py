"""The operator's image, really built and started: only when asked, since that takes a builder, a base and a minute."""

from __future__ import annotations

import os
import subprocess

import pytest

from tools.images import ROOT, build_command, find_builder

NAME = "model-garden/operator:test"

pytestmark = pytest.mark.skipif(
    not os.environ.get("MODEL_GARDEN_TEST_IMAGES"), reason="MODEL_GARDEN_TEST_IMAGES=1 builds the operator's image"
)


@pytest.fixture(scope="module")
def builder() -> str:
    builder = find_builder()
    command = build_command(builder, "operator", NAME, os.environ.get("MODEL_GARDEN_BASE_IMAGE"))
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return builder


def run(builder: str, *command: str) -> subprocess.CompletedProcess[str]:
    """What ``command`` does in a container of the image, with a read-only root where the builder offers one."""
    if builder != "buildah":
        return _do(builder, "run", "--rm", "--read-only", "--network=none", NAME, *command)
    container = _do(builder, "from", "--pull-never", NAME).stdout.strip()
    try:
        return _do(builder, "run", "--isolation", "chroot", container, "--", *command)
    finally:
        _do(builder, "rm", container)


def _do(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_operator_starts_and_says_that_no_cluster_is_there(builder: str) -> None:
    done = run(builder, "python", "-m", "model_garden.controller")
    assert done.returncode == 1
    assert "error: no cluster is configured" in done.stderr


def test_it_is_an_unprivileged_user_that_can_write_nothing_of_the_image(builder: str) -> None:
    done = run(builder, "sh", "-c", "id -u; touch /opt/venv/x /opt/model-garden/x")
    assert done.stdout.strip() == "65532"
    assert done.returncode != 0


def test_the_command_line_is_in_it_and_the_training_stack_is_not(builder: str) -> None:
    assert run(builder, "model-garden", "version").stdout.startswith("model-garden ")
    assert "No module named 'torch'" in run(builder, "python", "-c", "import torch").stderr
