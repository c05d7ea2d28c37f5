"""``model-garden serve`` without a cluster, as a person runs it: the real server, the real trainer, a tiny model."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.test_jobs import run_documented_curl
from tests.cli.conftest import COMMAND, environment
from tests.tiny import tiny_model

__all__ = ["tiny_model"]

pytestmark = pytest.mark.train

DATA = Path(__file__).parents[2] / "data"
ROUTE = "/api/v1/training/jobs"
TINY: dict[str, Any] = {
    "name": "shapes",
    "is_vision": True,
    "base_model": "./models/tiny",
    "dataset_path": "./data/vision_test_dataset.jsonl",
    "hyperparameters": {"max_steps": 3, "learning_rate": 0.001},
}


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[httpx.Client]:
    process = subprocess.Popen(
        [COMMAND, "serve", "--port", "0", *arguments],
        cwd=folder,
        env=environment(HOME=str(folder), HF_HUB_OFFLINE="1"),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        said = process.stdout.readline()
        assert "http://" in said, "the server did not start"
        address = "http://127.0.0.1:" + said.rsplit(":", 1)[1].split("/")[0]
        with httpx.Client(base_url=address, timeout=30) as client:
            yield client
    finally:
        process.terminate()
        process.wait()
        assert process.stdout
        process.stdout.close()


def until(client: httpx.Client, name: str, condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    deadline = time.monotonic() + 240
    while True:
        job: dict[str, Any] = client.get(f"{ROUTE}/{name}").json()
        if condition(job):
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.2)


def test_a_job_trains_on_this_machine_across_a_restart_and_the_documented_curl_is_queued(
    tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny").symlink_to(tiny_model("qwen2_5_vl"))
    shutil.copytree(DATA, tmp_path / "data")
    with serving(tmp_path) as client:  # there is no kubeconfig in this HOME
        assert client.post(ROUTE, json=TINY).status_code == 201
        until(client, "shapes", lambda job: job["status"].get("phase") == "Running")
        name = run_documented_curl(str(client.base_url).rstrip("/"))["name"]
        until(client, name, lambda job: job["status"].get("phase") == "Pending")
    with serving(tmp_path, "--local") as client:
        job = until(client, "shapes", lambda job: job["status"].get("phase") in ("Succeeded", "Failed"))
        assert job["status"]["phase"] == "Succeeded", job
        assert job["status"]["output"]["verified"] is True
        assert len(job["status"]["attempts"]) == 1
        assert (tmp_path / "models" / "shapes" / "adapter_model.safetensors").exists()
        client.post(f"{ROUTE}/{name}/cancel")
        until(client, name, lambda job: job["status"].get("phase") in ("Cancelled", "Failed"))
