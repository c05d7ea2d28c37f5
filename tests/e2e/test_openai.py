"""A script for OpenAI's API trains in a cluster, with the real operator and trainer."""

from __future__ import annotations

import openai
import pytest

from tests.api.conftest import serving
from tests.cluster import TestCluster
from tests.e2e.conftest import Demo

pytestmark = [pytest.mark.cluster, pytest.mark.train, pytest.mark.timeout(1200)]

ACCOUNT = "openai-user"


def token(cluster: TestCluster) -> str:
    """The token of somebody who may use TrainingJobs."""
    kubectl = cluster.kubectl
    kubectl("create", "serviceaccount", ACCOUNT)
    kubectl("create", "role", ACCOUNT, "--resource=trainingjobs.model-garden.dev", "--verb=create,get,list,patch")
    kubectl("create", "rolebinding", ACCOUNT, f"--role={ACCOUNT}", f"--serviceaccount=default:{ACCOUNT}")
    return kubectl("create", "token", ACCOUNT).strip()


def test_a_script_for_openai_starts_a_job_and_its_events_come_back(prompt_demo: Demo) -> None:
    cluster = prompt_demo.cluster
    with (
        serving(cluster.kubeconfig) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key=token(cluster)) as client,
    ):
        jobs = client.fine_tuning.jobs
        job = jobs.create(
            model="./models/tiny-qwen2",
            training_file="./data/text_test_dataset.jsonl",
            suffix="support",
            hyperparameters={"n_epochs": 1, "batch_size": 4},
            extra_body={"model_garden": {"resources": {"limits": {"nvidia.com/gpu": 0}}}},
        )
        seen: dict[str, str] = {}

        def ended() -> bool:
            for event in reversed(list(jobs.list_events(job.id))):
                seen.setdefault(event.id, event.message)
            return jobs.retrieve(job.id).status in ("succeeded", "failed")

        cluster.until(ended, f"{job.id} ends", 300)
        done = jobs.retrieve(job.id)
        assert done.status == "succeeded", done.error
        assert ended()  # with the events since the last look
        messages = list(seen.values())
        assert messages[0] == f"Created fine-tuning job: {job.id}"
        assert messages[1] == "Fine-tuning job started"
        assert any(message.startswith("Step 4/4: training loss=") for message in messages)
        assert messages[-2:] == [
            f"New fine-tuned model created: {done.fine_tuned_model}",
            "The job has successfully completed",
        ]
        assert done.fine_tuned_model == f"./models/{job.id.removeprefix('ftjob-')}"
        assert [model.id for model in client.models.list() if model.id == done.fine_tuned_model]
        assert client.files.content(done.result_files[0]).text.startswith("step,train_loss")
