"""The form's values, its documents and its examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from model_garden.contract.fields import spec_fields
from model_garden.contract.methods import Method
from model_garden.contract.resource import InvalidResource
from model_garden.datasets.convert import convert
from model_garden.datasets.formats import FORMATS, format_of
from model_garden.datasets.locate import Locator
from model_garden.datasets.origin import Origin
from model_garden.services.job_document import read_document
from model_garden.web import catalog, examples, form
from model_garden.web.advice import ADVICE
from model_garden.web.form_file import from_file

VALUES = {"model_type": "vision", "base_model": "a/b", "dataset_path": "./data/rows.jsonl"}


def test_what_the_form_leaves_empty_is_not_in_the_job() -> None:
    assert form.document({**VALUES, "name": " ", "lora_config.r": ""}) == VALUES


def test_every_input_reaches_its_field() -> None:
    given = {
        "hyperparameters.learning_rate": "1e-5",
        "hyperparameters.max_steps": "30",
        "hyperparameters.packing": "false",
        "lora_config.target_modules": "q_proj, v_proj",
        "quantization": "8bit",
        "gpus": "2",
        "memory": "32Gi",
        "more": "podTemplate:\n  nodeSelector: {gpu: a100}\n",
    }
    spec = read_document(form.document({**VALUES, **given})).spec
    assert spec.hyperparameters and spec.hyperparameters.learning_rate == 1e-5
    assert (spec.hyperparameters.max_steps, spec.hyperparameters.packing) == (30, False)
    assert spec.lora_config and spec.lora_config.target_modules == ["q_proj", "v_proj"]
    assert (spec.quantization, spec.gpus) == ("8bit", 2)
    assert spec.resources and spec.resources.requests == {"memory": "32Gi"}
    assert spec.pod_template and spec.pod_template.node_selector == {"gpu": "a100"}
    again = read_document(form.document(form.values_of(spec.to_dict()))).spec
    assert again.to_dict() == spec.to_dict(), "a rerun's form holds the whole spec"


def test_every_field_of_the_spec_has_an_input() -> None:
    methods = get_args(Method)
    kinds = [{"model_type": "vision", "method": method} for method in methods]
    inputs = {one.name for kind in kinds for one in form.form_fields(kind)}
    elsewhere = {*form.OWN_INPUTS, *form.WRITTEN_AS_YAML}
    lacking = [one.dotted for one in spec_fields() if one.path[0] not in elsewhere and ".".join(one.path) not in inputs]
    assert lacking == []


def test_the_settings_of_a_method_are_shown_and_read_with_it_alone() -> None:
    dpo = {**VALUES, "method": "dpo", "dpo.beta": "0.3", "kto.beta": "0.2"}
    shown = {one.name: one.default for one in form.form_fields(dpo) if one.name.endswith(".beta")}
    assert shown == {"dpo.beta": "0.1"}
    assert form.document(dpo)["dpo"] == {"beta": 0.3} and "kto" not in form.document(dpo)
    learning_rate = next(one for one in form.form_fields(dpo) if one.name == "hyperparameters.learning_rate")
    assert learning_rate.default == "5e-6"


@pytest.mark.parametrize(
    ("field", "value"), [("hyperparameters.batch_size", "two"), ("hyperparameters.batch_size", "0"), ("gpus", "many")]
)
def test_a_value_of_a_wrong_type_is_refused_by_the_schema(field: str, value: str) -> None:
    with pytest.raises(InvalidResource, match=value):
        read_document(form.document({**VALUES, field: value}))


def test_yaml_that_cannot_be_read_is_a_problem_of_its_input() -> None:
    with pytest.raises(InvalidResource, match=r"^spec\.more: line 1"):
        form.document({**VALUES, "more": "podTemplate: ["})


@pytest.mark.parametrize("vision", [True, False])
def test_each_example_row_trains_a_model_of_its_type(vision: bool, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "cat.jpg").touch()
    for method in get_args(Method):
        for one in examples.formats(vision=vision, method=method):
            place = Locator(tmp_path, tmp_path)
            convert(json.loads(one.row), Origin("rows.jsonl", 1), place, vision=vision, method=method)
    found = {format_of(json.loads(one.row), vision=vision, method=one.methods[0]).shape for one in examples.FORMATS}
    assert found == {one.shape for one in FORMATS}, "the form shows a row of every format"


@pytest.mark.parametrize(
    "one", [one for cases in examples.USE_CASES.values() for one in cases], ids=lambda one: one.key
)
def test_each_use_case_has_a_row_and_settings_that_train(one: examples.UseCase, tmp_path: Path) -> None:
    (tmp_path / one.image).parent.mkdir()
    (tmp_path / one.image).touch()
    convert(json.loads(one.row), Origin("rows.jsonl", 1), Locator(tmp_path, tmp_path), vision=True)
    read_document(form.document(VALUES | dict(one.settings)))
    changed = {field.name for field in form.form_fields(VALUES | dict(one.settings)) if field.is_changed}
    assert changed == set(one.settings), "a setting of a use case is no default"


def test_every_input_says_when_to_change_it() -> None:
    kinds = [{"model_type": "vision", "method": method} for method in get_args(Method)]
    assert {one.name for kind in kinds for one in form.form_fields(kind)} == set(ADVICE)


@pytest.mark.parametrize(
    ("value", "changed"), [("2e-5", False), ("0.00002", False), (" ", False), ("3e-5", True), ("fast", True)]
)
def test_a_setting_is_changed_where_its_value_differs(value: str, changed: bool) -> None:
    fields = form.form_fields(VALUES | {"hyperparameters.learning_rate": value})
    assert next(one for one in fields if one.name == "hyperparameters.learning_rate").is_changed is changed


def test_a_file_fills_the_whole_form_and_what_it_cannot_take_is_named() -> None:
    metadata = "{name: receipts, namespace: other, labels: {team: a}, annotations: {b: c}}"
    spec = "{modelType: vision, baseModel: a/b, datasetPath: ./data/rows.jsonl, podTemplate: {nodeSelector: {gpu: x}}}"
    text = f"apiVersion: model-garden.dev/v1alpha1\nkind: TrainingJob\nmetadata: {metadata}\nspec: {spec}\n"
    values, notices = from_file(text, "default")
    job = read_document(form.document(values))
    assert (job.name, job.metadata) == ("receipts", {"labels": {"team": "a"}})
    assert job.spec.pod_template and job.spec.pod_template.node_selector == {"gpu": "x"}
    assert [("annotations" in line, "namespace other" in line) for line in notices] == [(True, False), (False, True)]


def test_a_body_of_the_rest_api_fills_the_form_too() -> None:
    values, notices = from_file(json.dumps(VALUES | {"name": "receipts"}), "default")
    assert (values, notices) == (VALUES | {"name": "receipts"}, [])
    with pytest.raises(InvalidResource, match=r"YAML:2: hyperparameters\.learningRate"):
        from_file('base_model: a/b\nhyperparameters: {learning_rate: "x"}\ndataset_path: ./data/a.jsonl', "default")


def test_each_suggested_model_is_one_that_the_spec_takes() -> None:
    for vision in (True, False):
        for family in catalog.suggestions(vision=vision).values():
            for one in family:
                read_document({"base_model": one.id, "dataset_path": "./data/rows.jsonl"})
