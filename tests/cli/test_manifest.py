"""A job from a file, from flags and from --set: what is right is taken, what is wrong is named with its place."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.cli.conftest import JOB, Done

DRY = ("--dry-run", "client", "-o", "json")


def test_numbers_are_read_as_kubernetes_reads_them(cli: Callable[..., Done], job_file: Path) -> None:
    job = json.loads(cli("submit", str(job_file), *DRY).stdout)
    assert job["spec"]["hyperparameters"]["learningRate"] == 2e-5


def test_flags_lie_over_the_file_and_set_over_both(cli: Callable[..., Done], job_file: Path) -> None:
    done = cli(
        *("submit", str(job_file), "--epochs", "2", "--max-steps", "7", "--gpus", "4", "--target-modules", "q_proj"),
        *("--set", "hyperparameters.maxSteps=9", "--set", "podTemplate.nodeSelector={pool: a100}", *DRY),
    )
    spec = json.loads(done.stdout)["spec"]
    assert spec["hyperparameters"] == {"learningRate": 2e-5, "numEpochs": 2, "maxSteps": 9}
    assert spec["resources"] == {"limits": {"nvidia.com/gpu": 4}}
    assert spec["loraConfig"] == {"targetModules": ["q_proj"]}
    assert spec["podTemplate"] == {"nodeSelector": {"pool": "a100"}}


def test_set_takes_snake_case_too_and_null_takes_a_field_away(cli: Callable[..., Done], job_file: Path) -> None:
    done = cli("submit", str(job_file), "--set", "is_vision=null", "--set", "spec.output_dir=./models/x", *DRY)
    spec = json.loads(done.stdout)["spec"]
    assert "isVision" not in spec
    assert spec["outputDir"] == "./models/x"


def test_a_job_comes_from_stdin(cli: Callable[..., Done]) -> None:
    done = cli("submit", "-", *DRY, given=JOB)
    assert json.loads(done.stdout)["metadata"]["name"] == "receipts"


def test_a_job_from_flags_is_named_after_its_output(cli: Callable[..., Done]) -> None:
    done = cli(
        "submit", "--base-model", "a/b", "--dataset", "./data/x.jsonl", "--output-dir", "./models/My_Model", *DRY
    )
    assert json.loads(done.stdout)["metadata"]["name"] == "my-model"


def test_printed_yaml_means_the_same_to_every_reader(cli: Callable[..., Done], job_file: Path) -> None:
    done = cli("submit", str(job_file), "--selective-loss", "none", "--dry-run", "client")
    yaml_1_1 = YAML(typ="safe", pure=True)
    yaml_1_1.version = (1, 1)  # where a bare off is false, and 2e-5 without a dot a string
    spec = yaml_1_1.load(done.stdout)["spec"]
    assert spec["selectiveLoss"] == "none"
    assert spec["hyperparameters"]["learningRate"] == 2e-5


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "learningRate: 2e-5",
            "learningrate: 2e-5",
            "job.yaml:10: spec.hyperparameters.learningrate: unknown field; did",
        ),
        ("isVision: true", "isVision: 3", "job.yaml:7: spec.isVision: "),
        (
            "  isVision: true\n",
            "  isVision: true\n  modelType: text\n",
            "job.yaml:8: spec.modelType: text contradicts isVision",
        ),
        ("  datasetPath: ./data/receipts.jsonl\n", "", "spec.datasetPath: required field is missing"),
        ("kind: TrainingJob", "kind: Job", "job.yaml:2: kind: must be TrainingJob; got 'Job'"),
        ("  name: receipts", "  labels: {}", "metadata.name: required field is missing"),
        ("spec:", "spec: [", "job.yaml: line "),
        ("isVision: true", "isVision: true\n  isVision: false", "job.yaml: line "),
        ("spec:", "---\nspec:", "job.yaml: has 2 YAML documents"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    cli: Callable[..., Done], job_file: Path, old: str, new: str, problem: str
) -> None:
    job_file.write_text(JOB.replace(old, new, 1))
    done = cli("submit", "job.yaml", "--dry-run", "client")
    assert done.returncode == 2
    assert problem in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stdout == ""


def test_every_problem_is_told_at_once(cli: Callable[..., Done]) -> None:
    done = cli("train", "--base-model", "not a model", "--dataset", "", "--learning-rate", "7")
    assert done.returncode == 2
    assert [line.split(" ")[1] for line in done.stderr.splitlines()] == ["--base-model", "--dataset", "--learning-rate"]


@pytest.mark.parametrize("pair", ["maxSteps", "=3", "a.=3", "a=[1", "hyperparameters.maxstep=3"])
def test_a_wrong_set_is_refused(cli: Callable[..., Done], job_file: Path, pair: str) -> None:
    done = cli("submit", str(job_file), "--dry-run", "client", "--set", pair)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_missing_file_is_named(cli: Callable[..., Done]) -> None:
    done = cli("run", "nowhere.yaml")
    assert (done.returncode, done.stderr) == (2, "error: nowhere.yaml: No such file or directory\n")


def test_a_path_outside_the_workspace_is_refused_for_a_cluster(cli: Callable[..., Done], job_file: Path) -> None:
    done = cli("submit", str(job_file), "--dataset", "../secret.jsonl", "--dry-run", "client")
    assert done.returncode == 2
    assert "is outside the workspace" in done.stderr


def test_render_prints_the_job_that_the_operator_would_create(cli: Callable[..., Done], job_file: Path) -> None:
    done = cli("render", str(job_file), "-o", "json", MODEL_GARDEN_TRAINER_IMAGE="registry/trainer:1")
    job = json.loads(done.stdout)
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert (job["kind"], job["metadata"]["name"]) == ("Job", "receipts-train")
    assert container["image"] == "registry/trainer:1"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_without_a_cluster_it_is_said_what_to_set(cli: Callable[..., Done]) -> None:
    done = cli("list")
    assert done.returncode == 2
    assert "set KUBECONFIG" in done.stderr
