"""The schema as a person meets it: what is accepted, and the words for what is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_garden.contract.resource import InvalidResource, build_resource, parse_resource, parse_spec
from model_garden.contract.spec import TrainingJobSpec, outside_workspace
from tests.contract.cases import BASE, BROKEN, OUTSIDE, broken


@pytest.mark.parametrize(("changes", "field"), [case[1:3] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_broken_spec_is_refused_and_the_field_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidResource) as refused:
        parse_spec(broken(changes))
    assert field in str(refused.value)


@pytest.mark.parametrize(("changes", "field"), [case[1:] for case in OUTSIDE], ids=[case[0] for case in OUTSIDE])
def test_a_path_that_leaves_the_workspace_is_named(changes: dict[str, Any], field: str) -> None:
    (problem,) = outside_workspace(parse_spec(broken(changes)))
    assert problem.startswith(f"{field}: ")


@pytest.mark.parametrize(
    "path", ["data/x.jsonl", "./data/a/../x.jsonl", "/workspace/data/x.jsonl", "hf://datasets/org/x"]
)
def test_a_path_below_the_workspace_is_taken(path: str) -> None:
    assert outside_workspace(parse_spec(BASE | {"datasetPath": path})) == []


def test_the_nearest_known_field_is_suggested() -> None:
    with pytest.raises(
        InvalidResource, match=r"spec\.hyperparameters\.learningrate: unknown field; did you mean learningRate"
    ):
        parse_spec(BASE | {"hyperparameters": {"learningrate": 1e-4}})


def test_every_problem_of_a_resource_is_listed_at_once() -> None:
    with pytest.raises(InvalidResource) as refused:
        parse_resource(
            {"kind": "TrainingJob", "metadata": {}, "spec": {"baseModel": "org/model", "hyperparameters": {"r": 1}}}
        )
    assert [problem.split(":")[0] for problem in refused.value.problems] == [
        "apiVersion",
        "metadata.name",
        "spec.datasetPath",
        "spec.hyperparameters.r",
    ]


@pytest.mark.parametrize("name", ["My Job", "../../etc", "receipts-", "a..b", "x" * 254])
def test_a_name_that_kubernetes_would_refuse_is_refused_here_too(name: str) -> None:
    resource = build_resource(name, parse_spec(BASE))
    with pytest.raises(InvalidResource, match=r"^metadata\.name: .* is not a Kubernetes name"):
        parse_resource(resource)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"spec": None}, "spec: required field is missing"),
        ({"spec": []}, "spec: must be a mapping of fields; got []"),
        ({"spec": BASE | {"loraConfig": 16}}, "spec.loraConfig: must be a mapping of fields; got 16"),
    ],
)
def test_what_should_be_a_mapping_is_named_in_yamls_words(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidResource) as refused:
        parse_resource(build_resource("receipts", parse_spec(BASE)) | changes)
    assert refused.value.problems == [said]


def test_the_body_of_the_rest_api_and_the_yaml_are_one_model() -> None:
    rest = {
        "base_model": "Qwen/Qwen2.5-VL-3B-Instruct",
        "dataset_path": "./data/vision_dataset.jsonl",
        "output_dir": "./models/my-vision-model",
        "is_vision": True,
        "model_type": "vision",
        "hyperparameters": {
            "learning_rate": 0.00002,
            "num_epochs": 3,
            "batch_size": 1,
            "gradient_accumulation_steps": 8,
            "max_steps": -1,
        },
        "lora_config": {"r": 16, "lora_alpha": 16},
    }
    spec = parse_spec(rest)
    assert spec.to_snake_dict() == rest
    assert parse_spec(spec.to_dict()) == spec


NUMBERS = st.fixed_dictionaries(
    {},
    optional={
        "learningRate": st.floats(1e-9, 1),
        "numEpochs": st.floats(0.01, 100),
        "maxSteps": st.integers(1, 10**9),
        "batchSize": st.integers(1, 64),
        "seed": st.integers(0, 2**32 - 1),
        "packing": st.booleans(),
    },
)


@given(hyperparameters=NUMBERS, vision=st.booleans())
def test_a_resource_survives_being_written_and_read(hyperparameters: dict[str, Any], vision: bool) -> None:
    spec = parse_spec(BASE | {"isVision": vision, "hyperparameters": hyperparameters})
    assert parse_resource(build_resource("job", spec)) == ("job", spec)


def test_each_data_set_has_a_split_of_its_own() -> None:
    def datasets(**fields: str) -> list[tuple[str, str]]:
        return TrainingJobSpec.model_validate({"baseModel": "a/b", "datasetPath": "./data/a"} | fields).datasets

    assert datasets() == [("./data/a", "train")]
    other = datasets(datasetSplit="test", validationDatasetPath="./data/b")
    assert other == [("./data/a", "test"), ("./data/b", "train")]
    assert datasets(validationDatasetPath="./data/a") == [("./data/a", "train"), ("./data/a", "validation")]
