"""Builds the operator's and the trainer's image with docker, podman or buildah, whichever is there and works.

    make images ARGS="--prefix registry.example.com/team --push"

A release adds --attest: docker buildx then pushes each image together with its SBOM and its provenance, and writes its
digest into dist/IMAGE.json.

It needs Python's standard library alone, so that a build machine needs no environment.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PREFIX = "model-garden"
"""The chart's, for images that stay on this machine."""
DOCKERFILES = {"operator": "operator/Dockerfile", "trainer": "trainer-image/Dockerfile"}
BUILDERS = {"docker": "version", "podman": "info", "buildah": "info"}
"""Each with the subcommand that succeeds only if it can build: docker's asks its daemon."""
NOT_FOUND = "is not installed"


class NoBuilder(Exception):
    """None of the builders works here; the message says what each of them answered."""


def main(arguments: list[str]) -> int:
    """Build, and with --push push; the exit code is that of the command that failed, or 0."""
    options = _parse(arguments)
    try:
        builder = find_builder("docker" if options.attest else options.builder)
    except NoBuilder as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    images = [options.only] if options.only else list(DOCKERFILES)
    names = {image: f"{options.prefix}/{image}:{options.tag}" for image in images}
    commands = [
        build_command(builder, image, name, options.base_image, options.trainer_extra, attest=options.attest)
        for image, name in names.items()
    ]
    if options.push and not options.attest:
        commands += [[builder, "push", name] for name in names.values()]
    (ROOT / "dist").mkdir(exist_ok=True)
    for command in commands:
        print(f"» {shlex.join(command)}", flush=True)
        if code := subprocess.run(command, cwd=ROOT, check=False).returncode:
            return code
    print(f"\n{_next_step(options)}")
    return 0


def find_builder(wanted: str | None = None) -> str:
    """The first of docker, podman and buildah that works here, or ``wanted`` if it does.

    Raises:
        NoBuilder: none works; each one's own words are in the message.
    """
    answers = {}
    for builder in [wanted] if wanted else BUILDERS:
        answers[builder] = _why_not(builder)
        if answers[builder] is None:
            return builder
    told = "\n".join(f"  {builder}: {answer}" for builder, answer in answers.items())
    raise NoBuilder(f"no image builder works here:\n{told}\ninstall or start one of {', '.join(BUILDERS)}")


def build_command(
    builder: str,
    image: str,
    name: str,
    base_image: str | None = None,
    trainer_extra: str | None = None,
    *,
    attest: bool = False,
) -> list[str]:
    """The command that builds ``image`` (``operator`` or ``trainer``), run from the repository's root.

    With ``attest`` it also pushes: an image in docker's own store has no attestations. It then writes the digest of
    what it pushed into dist/IMAGE.json.
    """
    command = [builder, *(["buildx"] if attest else []), "build", "--file", DOCKERFILES[image], "--tag", name]
    if builder == "buildah":
        command.append("--layers")  # the others keep unchanged layers unasked
    if base_image:
        command += ["--build-arg", f"BASE_IMAGE={base_image}"]
    if trainer_extra and image == "trainer":
        command += ["--build-arg", f"TRAINER_EXTRA={trainer_extra}"]
    if attest:
        command += ["--sbom=true", "--provenance=mode=max", "--push", "--metadata-file", f"dist/{image}.json"]
    return [*command, "."]


def _why_not(builder: str) -> str | None:
    """Why ``builder`` cannot build here; None if it can."""
    if not shutil.which(builder):
        return NOT_FOUND
    answer = subprocess.run([builder, BUILDERS[builder]], capture_output=True, text=True, check=False)
    if answer.returncode == 0:
        return None
    lines = answer.stderr.strip().splitlines()
    return lines[-1] if lines else f"{builder} {BUILDERS[builder]} exited {answer.returncode}"


def _next_step(options: argparse.Namespace) -> str:
    images = {"image": "operator", "trainer.image": "trainer"}
    settings = {f"{key}.repository": f"{options.prefix}/{image}" for key, image in images.items()}
    if options.tag != _version():
        settings |= {f"{key}.tag": options.tag for key in images}
    flags = "".join(f" \\\n    --set {key}={value}" for key, value in settings.items())
    install = "helm install model-garden charts/model-garden --namespace model-garden --create-namespace"
    return f"To install with them:\n  {install}{flags}"


def _version() -> str:
    source = (ROOT / "operator/model_garden/__init__.py").read_text()
    found = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    assert found, "operator/model_garden/__init__.py has no __version__"
    return found[1]


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make images ARGS=…", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=list(DOCKERFILES), help="one of the two")
    parser.add_argument("--prefix", default=PREFIX, help="what comes before /operator and /trainer")
    parser.add_argument("--tag", default=_version(), help="the version unless given, as in the chart")
    parser.add_argument("--base-image", help="in place of the Dockerfiles' public one")
    parser.add_argument("--trainer-extra", choices=["trainer-gpu", "trainer"], help="trainer: without Unsloth")
    parser.add_argument("--builder", choices=list(BUILDERS), help="the first that works unless named")
    parser.add_argument("--push", action="store_true", help="push when all are built")
    parser.add_argument("--attest", action="store_true", help="with --push: SBOM and provenance, by docker buildx")
    options = parser.parse_args(arguments)
    if options.attest and not options.push:
        parser.error("--attest needs --push: the attestations are pushed together with the image")
    if options.push and options.prefix == PREFIX:
        parser.error("--push needs --prefix: the registry and folder that the images go to")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
