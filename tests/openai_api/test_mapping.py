"""A request of OpenAI's API as a TrainingJob, and back."""

from typing import Any

import pytest

from model_garden.contract.defaults import effective_spec
from model_garden.contract.resource import InvalidResource
from model_garden.openai_api.documents import job_document, job_name, page, result_id
from model_garden.openai_api.mapping import shown_hyperparameters, training_job
from model_garden.openai_api.request import Invalid, read_request
from model_garden.openai_api.results import is_result
from model_garden.services.errors import NotFound
from model_garden.services.manifest import Job

BODY: dict[str, Any] = {"model": "Qwen/Qwen2.5-7B-Instruct", "training_file": "./data/receipts.jsonl"}


def made(*, vision: bool = False, **more: Any) -> Job:
    request = read_request(BODY | more)
    return training_job(request, request.training_file, request.validation_file, vision=vision)


def test_the_least_request_leaves_every_default() -> None:
    job = made()
    assert job.name == "receipts"
    assert job.spec.to_snake_dict() == {
        "base_model": "Qwen/Qwen2.5-7B-Instruct",
        "dataset_path": "./data/receipts.jsonl",
        "is_vision": False,
        "hyperparameters": {},
    }
    assert made(hyperparameters={"n_epochs": "auto", "batch_size": "auto"}).spec == job.spec


@pytest.mark.parametrize(
    ("rows", "vision", "micro", "accumulation"),
    [(1, False, 1, 1), (8, False, 2, 4), (6, False, 2, 3), (7, False, 1, 7), (8, True, 1, 8)],
)
def test_a_batch_size_is_the_rows_of_an_optimizer_step(rows: int, vision: bool, micro: int, accumulation: int) -> None:
    h = made(vision=vision, hyperparameters={"batch_size": rows}).spec.hyperparameters
    assert h
    assert (h.batch_size, h.gradient_accumulation_steps) == (micro, accumulation)


def test_a_batch_is_divided_among_the_gpus() -> None:
    two = {"resources": {"limits": {"nvidia.com/gpu": 2}}}
    h = made(hyperparameters={"batch_size": 8}, model_garden=two).spec.hyperparameters
    assert h
    assert (h.batch_size, h.gradient_accumulation_steps) == (2, 2)
    with pytest.raises(Invalid, match="batch_size: 3 rows cannot be divided among 2 GPUs"):
        made(hyperparameters={"batch_size": 3}, model_garden=two)


def test_what_is_shown_is_what_was_asked_for() -> None:
    asked = {"n_epochs": 4, "batch_size": 12, "learning_rate_multiplier": 0.1}
    job = made(method={"type": "supervised", "supervised": {"hyperparameters": asked}}, vision=True)
    assert job.spec.hyperparameters
    assert job.spec.hyperparameters.learning_rate == 2e-6
    assert shown_hyperparameters(effective_spec(job.spec, job.name)) == asked


def test_a_suffix_names_the_job_and_metadata_comes_back() -> None:
    job = made(suffix="My Receipts!", metadata={"team": "vision"}, seed=7)
    assert job.name == "my-receipts"
    resource = job.resource("default")
    resource["metadata"] |= {"creationTimestamp": "2026-11-27T10:00:00Z", "uid": "0123456789"}
    document = job_document(resource)
    assert (document["id"], document["metadata"], document["seed"]) == ("ftjob-my-receipts", {"team": "vision"}, 7)
    assert (document["status"], document["created_at"]) == ("queued", 1795773600)


@pytest.mark.parametrize(
    ("more", "param", "words"),
    [
        ({"model": None}, "model", "valid string"),
        ({"n_epochs": 3}, "n_epochs", "unknown parameter"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "greater than or equal to 1"),
        ({"hyperparameters": {"n_epochs": "3"}}, "hyperparameters.n_epochs", "'3'"),
        ({"method": {"type": "dpo", "dpo": {}}}, "method.type", "'dpo' is not available; use supervised"),
        ({"integrations": [{"type": "wandb"}]}, "integrations", "not available"),
        ({"metadata": {"k": "v" * 513}}, "metadata", "512"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata", "at most 16"),
        ({"suffix": "!"}, "suffix", "no letter or digit"),
        ({"model_garden": {"base_model": "a/b"}}, "model_garden.base_model", "contradicts model"),
        (
            {"hyperparameters": {"n_epochs": 2}, "model_garden": {"hyperparameters": {"numEpochs": 3}}},
            "model_garden.hyperparameters.num_epochs",
            "contradicts n_epochs",
        ),
        (
            {
                "hyperparameters": {"n_epochs": 1},
                "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
            },
            "hyperparameters",
            "give one of them",
        ),
    ],
)
def test_a_wrong_parameter_is_named(more: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(Invalid) as wrong:
        made(**more)
    assert wrong.value.param == param
    assert words in str(wrong.value)


def test_a_value_that_breaks_a_rule_of_the_job_is_refused() -> None:
    with pytest.raises(InvalidResource, match=r"spec\.loraConfig\.rank: unknown field"):
        made(model_garden={"lora_config": {"rank": 8}})
    with pytest.raises(InvalidResource, match="outside the workspace"):
        made(training_file="/etc/passwd")


@pytest.mark.parametrize("identifier", ["receipts", "ftjob-", "ftjob-..", "ftjob-a/b", "ftjob-@latest", "ftjob-A"])
def test_what_is_no_id_of_a_job_is_not_looked_up(identifier: str) -> None:
    with pytest.raises(NotFound):
        job_name(identifier)


def test_the_result_file_of_a_job_is_known_by_its_id() -> None:
    assert is_result(result_id("receipts")) == "receipts"
    assert is_result("file-0123") is None and is_result("file-results-../x") is None


def test_pages_follow_from_one_another() -> None:
    ids = ["c", "b", "a"]
    assert list(page(ids, None, 2)) == [0, 1]
    assert list(page(ids, "b", 2)) == [2]
    with pytest.raises(Invalid, match="'x' is not in this list"):
        page(ids, "x", 2)
