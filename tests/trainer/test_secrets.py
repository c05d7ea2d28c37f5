"""The values of Secrets are in no object of the cluster, log, metric, answer, page or file of a model."""

from __future__ import annotations

import json
import re
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import serving
from tests.cluster import TestCluster
from tests.controller.harness import CLAIMS, OperatorHarness
from tests.tiny import tiny_model

__all__ = ["tiny_model"]

pytestmark = [pytest.mark.cluster, pytest.mark.train]

ROWS = Path(__file__).parents[2] / "data" / "text_test_dataset.jsonl"

NOWHERE = "127.0.0.1:9"  # nothing listens on the discard port: each client reports an error, as it does to users
SECRETS = {
    "hub": {"token": "hf_canaryHUBcanaryHUBcanaryHUBcanary0"},
    "trackers": {
        "MLFLOW_TRACKING_URI": f"http://someone:canaryMLFLOW@{NOWHERE}",
        "MLFLOW_TRACKING_TOKEN": "canaryMLFLOWtoken",
        "WANDB_API_KEY": "canaryWANDB" + "0" * 29,
        "WANDB_BASE_URL": f"http://{NOWHERE}",
        "TRACKIO_SERVER_URL": f"http://{NOWHERE}?write_token=canaryTRACKIO",
        "TRACKIO_WRITE_TOKEN": "canaryTRACKIO",
    },
    "model-garden-webhook": {"url": f"http://{NOWHERE}/canaryWEBHOOK"},
    "bucket": {"AWS_ACCESS_KEY_ID": "canaryACCESS", "AWS_SECRET_ACCESS_KEY": "canarySECRET", "AWS_REGION": "canary-1"},
}
COMMON: dict[str, Any] = {
    "baseModel": "./models/tiny",
    "hyperparameters": {"maxSteps": 2},
    "hubTokenSecret": {"name": "hub", "key": "token"},
    "storage": {"credentialsSecret": "bucket", "endpointUrl": f"http://{NOWHERE}"},
    "backoffLimit": 0,
}
CANARY = re.compile(r"canary(HUB|MLFLOW|WANDB|TRACKIO|WEBHOOK|ACCESS|SECRET)")
JOBS: dict[str, dict[str, Any]] = {
    "secretive": {
        "reportTo": ["mlflow", "wandb", "tensorboard", "trackio"],
        "tracking": {"secret": "trackers", "runName": "$(HF_TOKEN)", "project": "$(MLFLOW_TRACKING_URI)"},
    },
    "misled": {"datasetPath": "./data/$(HF_TOKEN)-$(AWS_SECRET_ACCESS_KEY).jsonl"},
    "unread": {"baseModel": "org/gated", "pushToHub": {"repo": "org/model"}},
}


@pytest.fixture
def garden(cluster: TestCluster, tmp_path: Path, tiny_model: Callable[[str], Path]) -> Iterator[OperatorHarness]:
    """A namespace with the Secrets, a tiny model and rows, and an operator whose jobs run the real trainer."""
    cluster.serve_training_jobs()
    harness = OperatorHarness(cluster, "secretive", tmp_path)
    for name, values in SECRETS.items():
        metadata = {"name": name, "namespace": harness.namespace}
        cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values})
    shutil.copytree(tiny_model("qwen2"), folder(harness, "MODELS") / "tiny")
    shutil.copy(ROWS, folder(harness, "DATA") / "rows.jsonl")
    command = json.dumps(["python", "-m", "model_garden_trainer"])  # no path: a pod's /tmp is its own
    harness.start_operator(TRAINER_COMMAND=command, LOG_LEVEL="DEBUG", WEBHOOKS="true")
    yield harness
    harness.stop_operator()


def folder(harness: OperatorHarness, claim: str) -> Path:
    """Where the files of a claim are."""

    def bound() -> str | None:
        found = harness.get("pvc", CLAIMS[claim])["spec"].get("volumeName")
        return str(found) if found else None

    volume = harness.cluster.get("pv", harness.cluster.until(bound, f"{claim} is bound"))
    return Path(volume["spec"]["local"]["path"])


def test_no_value_of_a_secret_is_anywhere_to_read(garden: OperatorHarness) -> None:
    for name, changes in JOBS.items():
        garden.submit(name, {"HF_ENDPOINT": f"http://{NOWHERE}"}, **(COMMON | changes))
    status = garden.until("secretive", "Succeeded", seconds=300)
    assert len(status["warnings"]) >= 2, "trackers that do not answer are reported"
    message = garden.until("misled", "Failed", seconds=300)["failure"]["message"]
    assert "$(HF_TOKEN)-$(AWS_SECRET_ACCESS_KEY).jsonl" in message, "the path stays as the author wrote it"
    assert garden.until("unread", "Failed", seconds=300)["failure"]["reason"] == "HubUnreachable"

    garden.cluster.until(lambda: "WebhookFailed" in dict(garden.events("misled")))
    shown = dict(readable(garden))
    assert len(shown["logs of secretive"]) > 1000
    assert {place: CANARY.findall(text) for place, text in shown.items() if CANARY.search(text)} == {}


def readable(garden: OperatorHarness) -> Iterator[tuple[str, str]]:
    """Everything that a person without the right to read Secrets can read, by its place."""
    kinds = garden.kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
    yield "objects", garden.kubectl("get", ",".join(kind for kind in kinds if kind != "secrets"), "-o", "json")
    for name in JOBS:
        yield f"logs of {name}", garden.kubectl("logs", "-l", f"model-garden.dev/training-job={name}", "--tail=-1")
    yield "log of the operator", garden.log.read_text()
    with urllib.request.urlopen(f"http://127.0.0.1:{garden.port}/metrics") as metrics:
        yield "metrics", metrics.read().decode()
    for path in (folder(garden, "MODELS") / "secretive").rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes().decode("latin-1")
    with serving(garden.kubeconfig) as address, httpx.Client(base_url=address, timeout=60) as client:
        for name in JOBS:
            for page in (f"/api/v1/training/jobs/{name}", f"/training/{name}"):
                answer = client.get(page, params={"namespace": garden.namespace})
                assert answer.status_code == 200, page
                yield page, answer.text
