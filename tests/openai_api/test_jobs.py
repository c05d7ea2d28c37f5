"""Fine-tuning jobs through the ``openai`` package, on a real API server. No operator runs here."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from tests.api.conftest import NAMESPACE, set_status, token
from tests.cluster import TestCluster

pytestmark = pytest.mark.cluster

JOB: dict[str, Any] = {"model": "Qwen/Qwen2.5-7B-Instruct", "training_file": "./data/receipts.jsonl"}


def test_create_starts_a_training_job(client: openai.OpenAI, garden: TestCluster) -> None:
    job = client.fine_tuning.jobs.create(
        **JOB,
        suffix="receipts",
        seed=7,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 8}}},
        metadata={"team": "finance"},
        extra_body={"model_garden": {"resources": {"limits": {"nvidia.com/gpu": 2}}}},
    )
    assert job.id.startswith("ftjob-receipts-")
    assert (job.status, job.object, job.fine_tuned_model, job.error) == ("queued", "fine_tuning.job", None, None)
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size, job.seed) == (2, 8, 7)
    spec = garden.get("trainingjob", job.id.removeprefix("ftjob-"), NAMESPACE)["spec"]
    assert (spec["baseModel"], spec["datasetPath"], spec["isVision"]) == (*JOB.values(), False)
    assert spec["hyperparameters"] == {
        "numEpochs": 2.0,
        "batchSize": 2,
        "gradientAccumulationSteps": 2,
        "seed": 7,
    }
    assert client.fine_tuning.jobs.retrieve(job.id) == job
    assert client.fine_tuning.jobs.list(metadata={"team": "finance"}).data == [job]
    assert client.fine_tuning.jobs.list(metadata={"team": "sales"}).data == []


def test_equal_requests_each_make_a_job_and_a_retry_makes_none(client: openai.OpenAI) -> None:
    first = client.fine_tuning.jobs.create(**JOB)
    retried = client.fine_tuning.jobs.create(**JOB, extra_headers={"X-Stainless-Retry-Count": "1"})
    second = client.fine_tuning.jobs.create(**JOB)
    assert (retried.id, len({first.id, second.id})) == (first.id, 2)


def test_a_request_that_is_sent_again_by_the_client_makes_one_job(
    client: openai.OpenAI, address: str, api_key: str
) -> None:
    """The answer to the first request is lost on its way, as with a broken connection."""

    class Lossy(httpx.HTTPTransport):
        lost = 0

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            answer = super().handle_request(request)
            if request.method == "POST" and not self.lost:
                self.lost += 1
                answer.read()
                raise httpx.ReadError("the connection is gone", request=request)
            return answer

    transport = Lossy()
    with openai.OpenAI(
        base_url=f"{address}/v1", api_key=api_key, http_client=httpx.Client(transport=transport)
    ) as lossy:
        job = lossy.fine_tuning.jobs.create(**JOB, suffix="once")
    assert transport.lost == 1
    assert [found.id for found in client.fine_tuning.jobs.list()] == [job.id]


def test_an_idempotency_key_is_honored(client: openai.OpenAI) -> None:
    key = {"Idempotency-Key": "k1"}
    first = client.fine_tuning.jobs.create(**JOB, extra_headers=key)
    assert client.fine_tuning.jobs.create(**JOB, extra_headers=key).id == first.id
    with pytest.raises(openai.BadRequestError, match="use a new key"):
        client.fine_tuning.jobs.create(**JOB, seed=1, extra_headers=key)


def test_lists_are_paged(client: openai.OpenAI) -> None:
    made = [client.fine_tuning.jobs.create(**JOB, suffix=f"job{number}").id for number in range(3)]
    first = client.fine_tuning.jobs.list(limit=2)
    assert (len(first.data), first.has_more) == (2, True)
    assert sorted(job.id for job in client.fine_tuning.jobs.list(limit=2)) == sorted(made)  # the client asks again
    with pytest.raises(openai.BadRequestError) as wrong:
        client.fine_tuning.jobs.list(after="ftjob-nothing")
    assert wrong.value.param == "after"


def test_a_run_is_followed_to_its_end(client: openai.OpenAI, garden: TestCluster) -> None:
    job = client.fine_tuning.jobs.create(**JOB, suffix="receipts")
    name = job.id.removeprefix("ftjob-")
    started = {"startTime": "2026-11-27T10:00:00Z"}
    attempt = {"pod": f"{name}-train-a", "fromStep": 0, "toStep": 10} | started
    history = [{"step": 10, "loss": 0.5}]
    progress = {"step": 10, "totalSteps": 20, "estimatedCompletionTime": "2026-11-27T11:00:00Z"}
    set_status(
        garden, name, phase="Running", attempts=[attempt], history=history, progress=progress, **started,
        checkpointSteps=[10],
    )  # fmt: skip
    running = client.fine_tuning.jobs.retrieve(job.id)
    assert (running.status, running.estimated_finish) == ("running", 1795777200)
    messages = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=1)]
    assert "Step 10/20: training loss=0.5000" in messages
    [checkpoint] = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert (checkpoint.step_number, checkpoint.metrics.train_loss) == (10, 0.5)
    end = {"completionTime": "2026-11-27T10:30:00Z"}
    set_status(garden, name, phase="Succeeded", output={"path": f"models/{name}"}, **end)
    done = client.fine_tuning.jobs.retrieve(job.id)
    assert (done.status, done.fine_tuned_model, done.finished_at) == ("succeeded", f"models/{name}", 1795775400)
    with pytest.raises(openai.BadRequestError, match="has already ended"):
        client.fine_tuning.jobs.cancel(job.id)


def test_a_failure_is_told(client: openai.OpenAI, garden: TestCluster) -> None:
    job = client.fine_tuning.jobs.create(**JOB)
    failure = {"reason": "InvalidDataset", "message": "row 3: no answer"}
    set_status(garden, job.id.removeprefix("ftjob-"), phase="Failed", failure=failure)
    failed = client.fine_tuning.jobs.retrieve(job.id)
    assert failed.status == "failed"
    assert failed.error
    assert (failed.error.code, failed.error.message, failed.error.param) == (
        "InvalidDataset",
        "row 3: no answer",
        "training_file",
    )


def test_pause_resume_and_cancel(client: openai.OpenAI, garden: TestCluster) -> None:
    job = client.fine_tuning.jobs.create(**JOB)
    name = job.id.removeprefix("ftjob-")
    assert client.fine_tuning.jobs.pause(job.id).status == "paused"
    assert garden.get("trainingjob", name, NAMESPACE)["spec"]["suspend"] is True
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    assert garden.get("trainingjob", name, NAMESPACE)["metadata"]["annotations"]["model-garden.dev/cancel"] == "true"


def test_errors_are_those_that_the_package_knows(
    client: openai.OpenAI, garden: TestCluster, address: str, api_key: str
) -> None:
    jobs = client.fine_tuning.jobs
    with pytest.raises(openai.NotFoundError, match="no TrainingJob 'nothing'"):
        jobs.retrieve("ftjob-nothing")
    with pytest.raises(openai.NotFoundError, match="an id begins with ftjob-"):
        jobs.retrieve("nothing")
    with pytest.raises(openai.BadRequestError) as wrong:
        jobs.create(**JOB, hyperparameters={"learning_rate_multiplier": 1e6})
    assert (wrong.value.param, wrong.value.type) == ("learning_rate_multiplier", "invalid_request_error")
    with pytest.raises(openai.BadRequestError, match="model: ") as wrong:
        jobs.create(model="a b", training_file="./data/x.jsonl")
    with pytest.raises(openai.AuthenticationError, match="log in again"):
        client.with_options(api_key="sk-wrong").fine_tuning.jobs.list()
    reader = token(garden, "openai-reader", "get", "list")
    with pytest.raises(openai.PermissionDeniedError, match="cannot create resource"):
        client.with_options(api_key=reader).fine_tuning.jobs.create(**JOB)
    answer = httpx.get(f"{address}/v1/nothing", headers={"Authorization": f"Bearer {api_key}"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (404, "there is no /v1/nothing")


def test_a_project_is_a_namespace(client: openai.OpenAI) -> None:
    job = client.fine_tuning.jobs.create(**JOB)
    own = client.with_options(project="proj_of_openai")
    assert own.fine_tuning.jobs.retrieve(job.id).organization_id == NAMESPACE
    with pytest.raises(openai.PermissionDeniedError):
        client.with_options(project="kube-system").fine_tuning.jobs.list()
    with pytest.raises(openai.BadRequestError, match="not the name of a namespace"):
        client.with_options(project="a/b").fine_tuning.jobs.list()
