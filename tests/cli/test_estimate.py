"""What a job needs is told before it is submitted: memory part by part, what saves memory, and disk space."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_garden.services.planning import EstimateResponse
from testing import model_configs
from tests.cli.conftest import JOB, Done
from tests.web.conftest import hub

__all__ = ["hub"]

DATA = ("--dataset", "./data/rows.jsonl")


@pytest.fixture
def model(tmp_path: Path) -> Callable[[dict[str, Any]], tuple[str, ...]]:
    """A function that makes the folder of a model, and returns the flags of a job that trains it."""

    def make(config: dict[str, Any]) -> tuple[str, ...]:
        (tmp_path / "base").mkdir()
        (tmp_path / "base" / "config.json").write_text(json.dumps(config))
        return ("estimate", "--base-model", "./base", *DATA)

    return make


def test_the_parts_of_a_model_on_this_machine_are_shown(
    cli: Callable[..., Done], model: Callable[..., tuple[str, ...]]
) -> None:
    done = cli(*model(model_configs.QWEN2_5_VL_7B), "--vision", "--quantization", "16bit")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for line in (
        "GPU memory      18.1 GiB, between 16.7 and 20.2; fits a GPU of 24 GB\n",
        "                weights 15.45 GiB (",
        "                optimizer 0.30 GiB (",
        "fits            GPUs of 24, 40, 48, 80, 96, 141, 192 GB\n",
        "too small       GPUs of 16 GB\n",
        "to save memory  quantization: 4bit (9.2 GiB)\n",
        "output folder   at most 1.5 GiB\n",
        "                3 checkpoints 1.4 GiB\n",
    ):
        assert line in done.stdout


def test_json_is_the_answer_of_the_rest_api_and_its_savings_hold(
    cli: Callable[..., Done], model: Callable[..., tuple[str, ...]]
) -> None:
    command = (*model(model_configs.LLAMA_3_1_8B), "--adapter", "none", "--quantization", "none", "-o", "json")
    done = cli(*command)
    answer = json.loads(done.stdout)
    EstimateResponse.model_validate(answer)
    assert sum(part["size_gib"] for part in answer["estimate"]["parts"]) == pytest.approx(
        answer["estimate"]["total_gib"], abs=0.01
    )
    *single, together = answer["savings"]
    assert [next(iter(one["spec"].values())) for one in single] == [
        {"optim": "adamw_8bit"},
        "lora",
    ]
    assert together["total_gib"] < min(one["total_gib"] for one in single)
    changed = json.loads(cli(*command, "--optim", "adamw_8bit").stdout)
    assert changed["estimate"]["total_gib"] == single[0]["total_gib"]


def test_a_job_that_fits_no_gpu_fails(cli: Callable[..., Done], model: Callable[..., tuple[str, ...]]) -> None:
    flags = ("--vision", "--adapter", "none", "--quantization", "none")
    done = cli(*model(model_configs.QWEN2_5_VL_72B), *flags)
    assert done.returncode == 1
    assert "too much for a GPU of 192 GB" in done.stdout


def test_a_model_of_the_hub_is_looked_up_there(cli: Callable[..., Done], job_file: Path, hub: str) -> None:
    done = cli("estimate", "job.yaml", "--max-steps", "2", HF_ENDPOINT=hub)
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "job receipts (Qwen/Qwen2.5-VL-3B-Instruct)"
    assert "download 7.0 GiB, unless the model is in the cache already" in lines
    assert any(line.startswith("1 checkpoint ") for line in lines), "after two steps"


def test_a_config_that_is_elsewhere_is_asked_for(cli: Callable[..., Done], tmp_path: Path, job_file: Path) -> None:
    job_file.write_text(JOB.replace("Qwen/Qwen2.5-VL-3B-Instruct", "./models/mine"))
    done = cli("estimate", "job.yaml")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: config.json of ./models/mine is not on the Hub and cannot be read here; name a copy of it with "
        "--model-config\n"
    )
    (tmp_path / "copy.json").write_text(json.dumps(model_configs.QWEN2_5_VL_3B))
    assert cli("estimate", "job.yaml", "--model-config", "copy.json").returncode == 0
    for content, problem in (("{", "copy.json is not JSON ("), ("{}", "error: config.json: hidden_size is missing")):
        (tmp_path / "copy.json").write_text(content)
        done = cli("estimate", "job.yaml", "--model-config", "copy.json")
        assert done.returncode == 2
        assert problem in done.stderr and done.stderr.count("\n") == 1


def test_a_cluster_that_does_not_answer_is_no_obstacle(
    cli: Callable[..., Done], model: Callable[..., tuple[str, ...]], tmp_path: Path
) -> None:
    nowhere = {
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "a", "user": {}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(nowhere))
    command = model(model_configs.LLAMA_3_1_8B)
    done = cli(*command, KUBECONFIG="kubeconfig")
    assert done.returncode == 0
    assert done.stderr.startswith("warning: the job is not compared with the cluster's GPUs: ")
    assert cli(*command, "--context", "a", KUBECONFIG="kubeconfig").returncode == 1
