"""The list of fields that flags, defaults and the reference page are made of."""

from typing import get_args

from model_garden.contract.fields import camel_case, markdown_table, snake_case, spec_fields, type_words
from model_garden.contract.spec import TrainingJobSpec
from model_garden.contract.status import Progress


def test_fields_come_in_the_order_of_the_schema_with_nested_ones_in_place() -> None:
    names = [field.dotted for field in spec_fields()]
    tops = list(dict.fromkeys(name.split(".")[0] for name in names))
    assert tops == [field.alias for field in TrainingJobSpec.model_fields.values()]
    assert names.index("hyperparameters.learningRate") < names.index("loraConfig.r")


def test_only_model_and_data_are_required() -> None:
    assert [field.dotted for field in spec_fields() if field.required] == ["baseModel", "datasetPath"]


def test_types_are_words() -> None:
    kinds = {field.dotted: type_words(field.type) for field in spec_fields()}
    assert kinds["hyperparameters.learningRate"] == "number"
    assert kinds["quantization"] == "4bit / 8bit / 16bit / none"
    assert kinds["preflight"] == "Enabled / Disabled"
    assert kinds["loraConfig.targetModules"] == "list of string"
    assert kinds["resources.limits"] == "map of quantity"
    assert kinds["podTemplate.affinity"] == "object"


def test_no_enum_value_is_a_boolean_to_a_reader_of_yaml_1_1() -> None:
    booleans = {"on", "off", "yes", "no", "y", "n", "true", "false"}
    assert not [field.dotted for field in spec_fields() if booleans & {str(v).lower() for v in get_args(field.type)}]


def test_every_field_outside_kubernetes_own_shapes_says_what_it_means() -> None:
    silent = [field.dotted for field in spec_fields() if field.declaration is None]
    assert [name for name in silent if not name.startswith(("podTemplate.", "resources."))] == []


def test_a_row_a_field() -> None:
    assert len(markdown_table().splitlines()) == 2 + len(list(spec_fields()))


def test_a_default_is_said_where_there_is_one_and_made_from_its_value() -> None:
    words = {field.dotted: field.default_words for field in spec_fields()}
    assert words["hyperparameters.learningRate"] == (
        "2e-4 (text), 2e-5 (vision), 1e-5 (vision, 70B and more), 5e-6 (dpo, kto), 8e-5 (orpo), 1e-5 (grpo), "
        "1e-5 (adapter: none)"
    )
    assert words["quantization"] == "4bit (GPU), none (CPU)"
    assert words["loraConfig.r"] == "16; 32 for vision models of 70B and more"
    assert words["hyperparameters.packing"] == "false"
    assert words["baseModel"] == ""


def test_each_hyperparameter_with_a_default_is_required_once_defaults_are_applied() -> None:
    from model_garden.contract.hyperparameters import EffectiveHyperparameters

    with_default = {f.path[1] for f in spec_fields() if f.path[0] == "hyperparameters" and f.default}
    required = {name for name, field in EffectiveHyperparameters.model_fields.items() if field.is_required()}
    assert with_default == required


def test_both_spellings_of_a_document_are_each_other_s_inverse() -> None:
    camel = {
        "baseModel": "a/b",
        "hyperparameters": {"learningRate": 2e-5},
        "podTemplate": {
            "nodeSelector": {"someKey": "aValue", "other_key": "x"},
            "tolerations": [{"tolerationSeconds": 5}],
            "affinity": {"nodeAffinity": {}},
        },
    }
    snake = {
        "base_model": "a/b",
        "hyperparameters": {"learning_rate": 2e-5},
        "pod_template": {
            "node_selector": {"someKey": "aValue", "other_key": "x"},
            "tolerations": [{"toleration_seconds": 5}],
            "affinity": {"nodeAffinity": {}},
        },
    }
    assert snake_case(camel, TrainingJobSpec) == snake
    assert camel_case(snake, TrainingJobSpec) == camel
    assert camel_case(camel, TrainingJobSpec) == camel


def test_a_field_of_a_newer_version_is_spelled_as_the_others() -> None:
    assert snake_case({"newField": 1, "gpuMemoryGiB": 2.0}, Progress) == {"new_field": 1, "gpu_memory_gib": 2.0}
