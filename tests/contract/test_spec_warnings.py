"""What a person is told of a valid spec."""

from typing import Any

import pytest

from model_garden.contract.defaults import effective_spec
from model_garden.contract.spec import TrainingJobSpec
from model_garden.contract.spec_warnings import spec_warnings

BASE = {"isVision": True, "baseModel": "a/b-VL", "datasetPath": "./data/a.jsonl"}


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({}, None),
        ({"loraConfig": {"finetuneVisionLayers": True}}, "set saveMethod: merged_16bit"),
        ({"loraConfig": {"finetuneVisionLayers": True}, "saveMethod": "merged_16bit"}, None),
    ],
)
def test_an_adapter_of_the_vision_tower_may_be_ignored_by_vllm(part: dict[str, Any], words: str | None) -> None:
    given = TrainingJobSpec.model_validate(BASE | part)
    for spec in (given, effective_spec(given, "a")):
        found = spec_warnings(spec)
        assert [words in message for message in found if words] == ([True] if words else []) and bool(found) == bool(
            words
        )
