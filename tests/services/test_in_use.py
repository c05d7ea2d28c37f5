"""What a job that has not ended reads or writes is in use."""

from typing import Any

import pytest

from model_garden.services.in_use import users_of


def job(name: str, phase: str = "Running", **spec: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"datasetPath": "./data/receipts/rows.jsonl"}, "./data/receipts"),
        ({"datasetPath": "data/receipts"}, "./data/receipts/rows.jsonl"),
        ({"datasetPath": "/workspace/data/receipts/../receipts"}, "data/receipts/"),
        ({"validationDatasetPath": "./data/receipts"}, "./data/receipts"),
        ({"baseModel": "./models/receipts"}, "./models/receipts"),
        ({"outputDir": "./models/receipts/second"}, "./models/receipts"),
        ({}, "./models/one"),
    ],
)
def test_a_path_of_a_job_that_has_not_ended_is_in_use(spec: dict[str, str], path: str) -> None:
    assert users_of([job("one", **spec)], path) == ["one"]
    assert users_of([job("one", "Succeeded", **spec)], path) == []


@pytest.mark.parametrize("path", ["./data/receipts-2", "./models/two", "./data/rece"])
def test_another_path_is_not(path: str) -> None:
    spec = {"datasetPath": "./data/receipts/rows.jsonl", "baseModel": "Qwen/Qwen2.5-VL-3B-Instruct"}
    assert users_of([job("one", **spec)], path) == []
