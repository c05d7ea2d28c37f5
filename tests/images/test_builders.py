"""`make images` with the builders that a machine may have: small programs in their place note how they were called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.images import ROOT


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


class Machine:
    """A PATH of its own, on which builders are installed one by one."""

    def __init__(self, folder: Path) -> None:
        self.programs = folder / "bin"
        self.programs.mkdir()
        self.calls = folder / "calls"
        self.calls.touch()

    def install(self, builder: str, works: bool = True, builds: bool = True) -> None:
        """A builder whose check and whose builds succeed or fail as said."""
        script = [
            "#!/bin/sh",
            f'case "$1" in build|buildx|push) echo "{builder} $*" >> "{self.calls}"; exit {0 if builds else 9};; esac',
            "exit 0" if works else f'echo "{builder} is out of order" >&2; exit 1',
        ]
        program = self.programs / builder
        program.write_text("\n".join(script) + "\n")
        program.chmod(0o755)

    def images(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs the target's command with these builders and no others."""
        environment = os.environ | {"PATH": str(self.programs)}
        command = [sys.executable, "tools/images.py", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    def built(self) -> list[str]:
        """What the builders were asked, in order."""
        return self.calls.read_text().splitlines()


def test_a_builder_that_is_installed_but_does_not_work_is_passed_over(machine: Machine) -> None:
    machine.install("docker", works=False)
    machine.install("buildah")
    done = machine.images("--tag", "v1")
    assert done.returncode == 0, done.stderr
    assert machine.built() == [
        "buildah build --file operator/Dockerfile --tag model-garden/operator:v1 --layers .",
        "buildah build --file trainer-image/Dockerfile --tag model-garden/trainer:v1 --layers .",
    ]


def test_without_a_builder_it_says_what_each_one_answered(machine: Machine) -> None:
    machine.install("docker", works=False)
    done = machine.images()
    assert done.returncode == 1
    assert "docker: docker is out of order" in done.stderr
    assert "podman: is not installed" in done.stderr
    assert "install or start one of docker, podman, buildah" in done.stderr


def test_pushed_images_carry_the_prefix_that_the_chart_is_then_told(machine: Machine) -> None:
    machine.install("docker")
    done = machine.images("--prefix", "registry.example.com/team", "--push")
    assert done.returncode == 0, done.stderr
    pushes = [call for call in machine.built() if call.startswith("docker push")]
    assert len(pushes) == 2
    assert all("registry.example.com/team/" in call for call in machine.built())
    assert "--set image.repository=registry.example.com/team/operator" in done.stdout
    assert "--set trainer.image.repository=registry.example.com/team/trainer" in done.stdout


def test_a_push_without_a_registry_is_refused_before_anything_is_built(machine: Machine) -> None:
    machine.install("docker")
    done = machine.images("--push")
    assert done.returncode == 2
    assert "--push needs --prefix" in done.stderr
    assert machine.built() == []


def test_base_image_and_extra_reach_the_build_they_are_for(machine: Machine) -> None:
    machine.install("podman")
    done = machine.images("--base-image", "example.com/python:3.12", "--trainer-extra", "trainer")
    assert done.returncode == 0, done.stderr
    operator, trainer = machine.built()
    assert "--build-arg BASE_IMAGE=example.com/python:3.12" in operator
    assert "--build-arg BASE_IMAGE=example.com/python:3.12" in trainer
    assert "TRAINER_EXTRA" not in operator
    assert "--build-arg TRAINER_EXTRA=trainer" in trainer


def test_a_failed_build_ends_it_with_its_exit_code_and_pushes_nothing(machine: Machine) -> None:
    machine.install("docker", builds=False)
    done = machine.images("--prefix", "registry.example.com/team", "--push")
    assert done.returncode == 9
    assert len(machine.built()) == 1


def test_a_release_pushes_each_image_with_its_sbom_and_provenance(machine: Machine) -> None:
    machine.install("docker")

    done = machine.images("--prefix", "registry.test/team", "--tag", "v1", "--only", "operator", "--push", "--attest")

    assert done.returncode == 0, done.stderr
    assert machine.built() == [
        "docker buildx build --file operator/Dockerfile --tag registry.test/team/operator:v1 "
        "--sbom=true --provenance=mode=max --push --metadata-file dist/operator.json ."
    ]


def test_attestations_of_an_image_that_is_not_pushed_are_refused(machine: Machine) -> None:
    machine.install("docker")

    done = machine.images("--attest")

    assert done.returncode == 2
    assert "--attest needs --push" in done.stderr
