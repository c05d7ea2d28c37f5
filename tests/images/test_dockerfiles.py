"""The Dockerfiles say what the chart and the operator rely on, and keep what changes often apart from what does not."""

from __future__ import annotations

import fnmatch
import re
import shlex
import tomllib
from dataclasses import dataclass
from typing import Any

import pytest
from ruamel.yaml import YAML

from model_garden.builders.job import job
from model_garden.builders.plan import plan
from model_garden.builders.settings import Settings
from tools.images import DOCKERFILES, ROOT

BOTH = pytest.mark.parametrize("image", list(DOCKERFILES))


@dataclass(frozen=True)
class Stage:
    """From one FROM to the next: its name and its instructions, (keyword, rest), continuation lines joined."""

    name: str
    instructions: list[tuple[str, str]]

    def all(self, keyword: str) -> list[str]:
        return [rest for found, rest in self.instructions if found == keyword]


def text(image: str) -> str:
    return (ROOT / DOCKERFILES[image]).read_text()


def instructions(image: str) -> list[tuple[str, str]]:
    lines = "\n".join(line for line in text(image).splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines).splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined if line.strip()]


def stages(image: str) -> list[Stage]:
    found: list[Stage] = []
    for keyword, rest in instructions(image):
        if keyword == "FROM":
            found.append(Stage(rest.partition(" AS ")[2], []))
        elif found:
            found[-1].instructions.append((keyword, rest))
    return found


def copied_from_checkout(stage: Stage) -> list[str]:
    return [path for copy in stage.all("COPY") if "--from" not in copy for path in copy.split()[:-1]]


def operator_deployment() -> dict[str, Any]:
    documents = YAML(typ="safe").load_all((ROOT / "manifests/operator.yaml").read_text())
    (deployment,) = [document for document in documents if document and document["kind"] == "Deployment"]
    return deployment["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def trainer_pod() -> dict[str, Any]:
    metadata = {"name": "receipts", "namespace": "research", "uid": "1"}
    spec = {"baseModel": "org/model", "datasetPath": "./data/rows.jsonl"}
    settings = Settings(data_claim="data", models_claim="models", cache_claim="cache")
    return job(plan({"metadata": metadata, "spec": spec}, settings), settings)["spec"]["template"]["spec"]  # type: ignore[no-any-return]


@BOTH
def test_the_base_is_an_argument_with_a_public_default(image: str) -> None:
    assert instructions(image)[0] == ("ARG", "BASE_IMAGE=python:3.12-slim-bookworm")
    outside = [rest.split()[0] for keyword, rest in instructions(image) if keyword == "FROM"]
    names = {stage.name for stage in stages(image)}
    assert {base for base in outside if base not in names} == {"${BASE_IMAGE}"}


@BOTH
def test_any_builder_understands_it(image: str) -> None:
    assert not re.search(r"^#\s*syntax\s*=", text(image), re.MULTILINE), "a front end would be fetched from a registry"
    assert "--mount" not in text(image), "the classic docker builder has no mounts"


@pytest.mark.parametrize(("image", "pod"), [("operator", operator_deployment), ("trainer", trainer_pod)])
def test_it_runs_as_the_pod_runs_it(image: str, pod: Any) -> None:
    final = stages(image)[-1]
    security, container = pod()["securityContext"], pod()["containers"][0]
    assert final.all("USER") == [f"{security['runAsUser']}:{security['runAsGroup']}"]
    assert final.all("CMD") == [str(list(container["command"])).replace("'", '"')]
    if "workingDir" in container:
        assert final.all("WORKDIR") == [container["workingDir"]]


@BOTH
def test_a_change_of_code_leaves_the_dependencies_layers_alone(image: str) -> None:
    by_name = {stage.name: stage for stage in stages(image)}
    assert copied_from_checkout(by_name["dependencies"]) == ["pyproject.toml", "uv.lock"]
    assert "--frozen" in " ".join(by_name["dependencies"].all("RUN")), "what uv.lock pins, and nothing else"
    copies = by_name[""].all("COPY")
    assert [copy for copy in copies if "--from=project" in copy] == copies[-1:]
    assert copied_from_checkout(by_name[""]) == []


@BOTH
def test_all_that_it_copies_is_there_and_let_through(image: str) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*", "nothing gets into a build unless it is named"
    through = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    for stage in stages(image):
        for path in copied_from_checkout(stage):
            assert (ROOT / path).exists()
            assert any(fnmatch.fnmatch(path, pattern) for pattern in through), f"{path} is kept out by .dockerignore"


@BOTH
def test_it_installs_an_extra_that_exists_with_the_makefiles_uv(image: str) -> None:
    arguments = dict(argument.split("=", 1) for keyword, argument in instructions(image) if keyword == "ARG")
    asked = re.findall(r"--extra (\S+)", text(image))
    extras = {arguments["TRAINER_EXTRA"] if extra == "${TRAINER_EXTRA}" else extra for extra in asked}
    assert extras
    assert extras <= set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    assert f"UV_VERSION := {arguments['UV_VERSION']}\n" in (ROOT / "Makefile").read_text()


@BOTH
def test_it_holds_no_secret_and_names_no_index_of_packages(image: str) -> None:
    variables = [
        pair.partition("=")[0]
        for keyword, rest in instructions(image)
        if keyword in ("ARG", "ENV")
        for pair in shlex.split(rest)
    ]
    assert not [name for name in variables if re.search("TOKEN|SECRET|PASSWORD|KEY|INDEX|PROXY|CERT", name)]
    assert not re.search(r"https?://", text(image))


def test_the_trainer_image_shows_no_gpu_to_a_pod_that_asked_for_none() -> None:
    assert not [rest for rest in stages("trainer")[-1].all("ENV") if "NVIDIA_VISIBLE_DEVICES" in rest]


def test_the_operator_image_has_no_training_stack() -> None:
    assert set(re.findall(r"--extra (\S+)", text("operator"))) == {"api", "data", "operator", "tracing"}
    assert not [path for stage in stages("operator") for path in copied_from_checkout(stage) if "trainer" in path]
