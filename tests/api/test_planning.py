"""What the API says of a job before it exists, and a rerun of one that does."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from model_garden.contract.defaults import defaults
from tests.api.conftest import BODY, NAMESPACE, ROUTE
from tests.cli.conftest import environment
from tests.cluster import TestCluster

pytestmark = pytest.mark.cluster

JOB: dict[str, Any] = {
    "name": "it-s",
    "base_model": "Qwen/Qwen2.5-VL-3B-Instruct",
    "dataset_path": "./data/it's.jsonl",
    "is_vision": True,
    "hyperparameters": {"learning_rate": 2e-5, "auto_batch_size": False},
    "lora_config": {"target_modules": ["q_proj", "v_proj"]},
    "resources": {"limits": {"nvidia.com/gpu": 2}},
    "pod_template": {"node_selector": {"gpu": "yes"}},
}
CONFIG = {
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "tie_word_embeddings": True,
}


def test_defaults_follow_the_type_and_size_of_the_model(api: httpx.Client) -> None:
    text = api.get("/api/v1/defaults").json()["hyperparameters"]
    vision = api.get("/api/v1/defaults", params={"vision": "true"}).json()["hyperparameters"]
    assert (text["batch_size"], text["gradient_accumulation_steps"], text["learning_rate"]) == (2, 4, 2e-4)
    assert (vision["batch_size"], vision["gradient_accumulation_steps"], vision["learning_rate"]) == (1, 8, 2e-5)
    large = api.get("/api/v1/defaults", params={"vision": "true", "base_model": "Qwen/Qwen2.5-VL-72B-Instruct"}).json()
    expected = defaults(vision=True, base_model="Qwen/Qwen2.5-VL-72B-Instruct")
    assert large["hyperparameters"]["learning_rate"] == expected["hyperparameters"]["learningRate"]


def test_the_same_job_in_four_spellings(
    api: httpx.Client, address: str, kubeconfig: Path, garden: TestCluster, tmp_path: Path
) -> None:
    rendered = api.post("/api/v1/render", json=JOB).json()
    assert not garden.get("trainingjobs", namespace=NAMESPACE)
    script = tmp_path / "job.py"
    script.write_text(rendered["python"])
    (tmp_path / "requests.py").write_text("from httpx import post")  # the same call of another client
    runs = {
        "yaml": ["kubectl", *garden.command("apply", "-n", NAMESPACE, "-f", "-")[1:]],
        "curl": ["bash", "-c", rendered["curl"] + " --silent --fail"],
        "command": ["bash", "-c", rendered["command"]],
        "python": [sys.executable, str(script)],
    }
    runs["yaml"][0] = garden.command()[0]
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    specs = {}
    for spelling, command in runs.items():
        environ = environment(KUBECONFIG=str(kubeconfig), PATH=path)
        done = subprocess.run(command, input=rendered["yaml"], env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{spelling}: {done.stdout}{done.stderr}\n{rendered[spelling]}"
        specs[spelling] = garden.get("trainingjob", "it-s", NAMESPACE)["spec"]
        garden.kubectl("delete", "trainingjob", "it-s", "-n", NAMESPACE)
    assert specs["curl"] == specs["command"] == specs["python"] == specs["yaml"]
    assert specs["yaml"] == YAML(typ="safe").load(rendered["yaml"])["spec"]


def test_an_estimate_names_the_parts_and_the_nodes(api: httpx.Client) -> None:
    body = BODY | {"base_model_config": CONFIG, "resources": {"limits": {"nvidia.com/gpu": 1}}}
    answer = api.post("/api/v1/estimate", json=body)
    assert answer.status_code == 200, answer.text
    estimate = answer.json()["estimate"]
    assert estimate["total_gib"] == pytest.approx(sum(part["size_gib"] for part in estimate["parts"]), abs=0.01)
    assert all(node["fits"] in (True, False) for node in answer.json()["nodes"])
    assert [part["name"] for part in answer.json()["output"]] == ["3 checkpoints", "the adapter"]
    assert {"hyperparameters": {"max_seq_length": 1024}} in [one["spec"] for one in answer.json()["savings"]]
    row = {"tokens": 8}
    smaller = api.post("/api/v1/estimate", json=body | {"largest_row": row}).json()["estimate"]
    assert smaller["total_gib"] < estimate["total_gib"]


def test_an_estimate_without_a_config_says_what_to_send(api: httpx.Client) -> None:
    answer = api.post("/api/v1/estimate", json=BODY | {"base_model": "./models/mine"})
    assert (answer.status_code, answer.json()["reason"]) == (424, "Unavailable")
    assert "send it as base_model_config" in answer.json()["detail"]
    broken = api.post("/api/v1/estimate", json=BODY | {"base_model_config": {"hidden_size": "big"}})
    assert broken.json()["errors"][0]["field"] == "base_model_config"


def test_a_rerun_is_the_old_job_with_changes(api: httpx.Client, garden: TestCluster) -> None:
    body = BODY | {"hyperparameters": {"max_steps": 7, "batch_size": 1}, "backoff_limit": 1}
    api.post(ROUTE, json=body, headers={"Idempotency-Key": "one"})
    changes = {"hyperparameters": {"max_steps": 9}, "backoff_limit": None}
    answer = api.post(f"{ROUTE}/receipts/rerun", json=changes)
    assert answer.status_code == 201, answer.text
    job = answer.json()
    assert (job["name"], job["hyperparameters"]) == ("receipts-2", {"max_steps": 9, "batch_size": 1})
    assert "backoff_limit" not in job
    assert api.post(ROUTE, json=body, headers={"Idempotency-Key": "one"}).json()["name"] == "receipts"
    assert api.post(f"{ROUTE}/receipts/rerun", json={"name": "receipts-2"}).status_code == 409
    wrong = api.post(f"{ROUTE}/receipts/rerun", json={"hyperparameters": {"max_step": 9}})
    assert json.loads(wrong.text)["errors"][0]["field"] == "hyperparameters.max_step"
