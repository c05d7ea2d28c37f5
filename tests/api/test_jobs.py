"""TrainingJobs over REST, on a real API server."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.api.conftest import BODY, NAMESPACE, ROUTE, set_status
from tests.cluster import TestCluster

pytestmark = pytest.mark.cluster

CURL = """\
curl -X POST http://localhost:8000/api/v1/training/jobs \\
  -H "Content-Type: application/json" \\
  -d '{
    "name": "my-vision-model",
    "base_model": "Qwen/Qwen2.5-VL-3B-Instruct",
    "dataset_path": "./data/vision_dataset.jsonl",
    "output_dir": "./models/my-vision-model",
    "is_vision": true,
    "model_type": "vision",
    "hyperparameters": {
      "learning_rate": 0.00002,
      "num_epochs": 3,
      "batch_size": 1,
      "gradient_accumulation_steps": 8,
      "max_steps": -1
    },
    "lora_config": {
      "r": 16,
      "lora_alpha": 16
    }
  }'"""


def run_documented_curl(address: str) -> dict[str, Any]:
    """The job that a shell creates with ``CURL``, word for word; only the connection goes to ``address``."""
    port = address.rsplit(":", 1)[1]
    command = f"{CURL} --silent --write-out '%{{http_code}}' --connect-to localhost:8000:127.0.0.1:{port}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    answer, status = done.stdout[:-3], done.stdout[-3:]
    assert status == "201", answer
    job: dict[str, Any] = json.loads(answer)
    return job


def test_the_documented_curl_creates_the_job(api: httpx.Client, address: str, garden: TestCluster) -> None:
    job = run_documented_curl(address)
    sent = json.loads(CURL.split("-d '")[1].removesuffix("'"))
    assert {key: job[key] for key in sent} == sent
    assert (job["id"], job["namespace"], job["phase"]) == ("my-vision-model", NAMESPACE, "Pending")
    stored = garden.get("trainingjob", "my-vision-model", NAMESPACE)["spec"]
    assert stored["hyperparameters"]["gradientAccumulationSteps"] == 8
    assert stored["loraConfig"] == {"r": 16, "loraAlpha": 16}


def test_camel_case_is_read_and_snake_case_answered(api: httpx.Client) -> None:
    body = {"name": "receipts", "baseModel": "a/b", "datasetPath": "./data/x.jsonl", "loraConfig": {"loraAlpha": 8}}
    job = api.post(ROUTE, json=body).json()
    assert (job["base_model"], job["lora_config"]) == ("a/b", {"lora_alpha": 8})


def test_the_same_request_again_returns_the_same_job(api: httpx.Client) -> None:
    first, again = api.post(ROUTE, json=BODY), api.post(ROUTE, json=BODY)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["uid"] == again.json()["uid"]
    assert api.get(first.headers["Location"]).json()["uid"] == first.json()["uid"]


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "once"}], ids=["by its name", "by a key"])
def test_a_request_that_is_sent_twenty_times_at_once_makes_one_job(api: httpx.Client, key: dict[str, str]) -> None:
    body = {field: value for field, value in BODY.items() if not key or field != "name"}
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: api.post(ROUTE, json=body, headers=key), range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({answer.json()["uid"] for answer in answers}) == 1
    assert len(api.get(ROUTE).json()["items"]) == 1


def test_the_same_request_is_the_same_also_once_the_job_is_suspended(api: httpx.Client) -> None:
    api.post(ROUTE, json=BODY)
    assert api.post(f"{ROUTE}/receipts/suspend").json()["suspend"] is True
    assert api.post(ROUTE, json=BODY).status_code == 200


def test_another_request_of_a_taken_name_is_refused_with_the_difference(api: httpx.Client) -> None:
    api.post(ROUTE, json=BODY)
    answer = api.post(ROUTE, json=BODY | {"hyperparameters": {"max_steps": 7}})
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["detail"] == f"namespace {NAMESPACE} already has another TrainingJob receipts"
    [error] = problem["errors"]
    assert error["field"] == "hyperparameters.max_steps"
    assert error["message"] == "the existing job has nothing, this request 7"


def test_a_key_makes_a_request_without_a_name_repeatable(api: httpx.Client) -> None:
    body = {key: value for key, value in BODY.items() if key != "name"}
    first = api.post(ROUTE, json=body, headers={"Idempotency-Key": "one"})
    again = api.post(ROUTE, json=body, headers={"Idempotency-Key": "one"})
    other = api.post(ROUTE, json=body, headers={"Idempotency-Key": "two"})
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 201)
    assert first.json()["uid"] == again.json()["uid"]
    assert first.json()["name"].startswith("receipts-")
    changed = api.post(ROUTE, json=body | {"backoff_limit": 0}, headers={"Idempotency-Key": "one"})
    assert (changed.status_code, changed.json()["reason"]) == (422, "IdempotencyKeyReused")
    assert changed.json()["errors"][0]["field"] == "backoff_limit"


def test_every_wrong_field_is_named(api: httpx.Client) -> None:
    wrong = {
        "name": "Not_A_Name",
        "dataset_path": "../x.jsonl",
        "hyperparameters": {"learning_rat": 1, "batch_size": 0},
    }
    answer = api.post(ROUTE, json=wrong)
    assert answer.status_code == 422
    errors = {error["field"]: (error["reason"], error["message"]) for error in answer.json()["errors"]}
    assert set(errors) == {"name", "base_model", "hyperparameters.learning_rat", "hyperparameters.batch_size"}
    assert errors["base_model"] == ("FieldValueRequired", "required field is missing")
    assert errors["hyperparameters.learning_rat"] == ("FieldUnknown", "unknown field; did you mean learningRate?")
    outside = api.post(ROUTE, json=BODY | {"dataset_path": "../x.jsonl"}).json()
    assert outside["errors"][0]["field"] == "dataset_path"


def test_a_dry_run_creates_nothing(api: httpx.Client) -> None:
    assert api.post(ROUTE, json=BODY, params={"dry_run": "true"}).json()["name"] == "receipts"
    assert api.get(ROUTE).json()["items"] == []


def test_a_job_is_listed_shown_changed_and_deleted(api: httpx.Client, garden: TestCluster) -> None:
    api.post(ROUTE, json=BODY)
    set_status(garden, "receipts", phase="Running", progress={"step": 1, "totalSteps": 2, "gpuMemoryGiB": 3.5})
    assert [job["id"] for job in api.get(ROUTE).json()["items"]] == ["receipts"]
    job = api.get(f"{ROUTE}/@latest").json()
    assert job["status"]["progress"] == {"step": 1, "total_steps": 2, "gpu_memory_gib": 3.5}
    assert api.post(f"{ROUTE}/receipts/stop").status_code == 202
    stored = garden.get("trainingjob", "receipts", NAMESPACE)
    assert stored["metadata"]["annotations"]["model-garden.dev/stop"] == "save"
    set_status(garden, "receipts", phase="Succeeded")
    assert api.post(f"{ROUTE}/receipts/cancel").status_code == 409
    assert api.delete(f"{ROUTE}/receipts").status_code == 204
    gone = api.get(f"{ROUTE}/receipts")
    assert (gone.status_code, gone.json()["reason"]) == (404, "NotFound")


def test_a_name_that_is_almost_right_is_suggested(api: httpx.Client) -> None:
    api.post(ROUTE, json=BODY)
    assert "did you mean receipts?" in api.get(f"{ROUTE}/receipt").json()["detail"]


@pytest.mark.parametrize("name", ["%2e%2e", "a%3Fwatch=true", "a%2Fstatus", "Receipts"])
def test_a_name_never_becomes_another_path(api: httpx.Client, name: str) -> None:
    answer = api.delete(f"{ROUTE}/{name}")
    assert answer.status_code in (404, 405, 422)
    assert answer.headers["content-type"] == "application/problem+json"
