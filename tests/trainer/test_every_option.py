"""One run of a tiny model for every enum value and boolean of the spec, at its default batch, in this process.

The options are read from the spec's own schema, so that a new one is covered by itself. What needs a GPU, the network
or llama.cpp is listed with the refusal that a machine without them gives.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from model_garden.contract.defaults import merge
from model_garden.contract.spec import TrainingJobSpec
from model_garden_trainer.errors import TrainingError
from tests.trainer.preferences import preference_rows, write_rows
from tests.trainer.workspace import Workspace, config

pytestmark = pytest.mark.train

Option = tuple[str, Any]
"""A field's path in the spec, and its value."""

ONLY_IN_A_CLUSTER = ("podTemplate", "resources", "storage", "suspend", "hubTokenSecret")
TEXT = {"baseModel": "./models/qwen2", "datasetPath": "./data/json.jsonl"}
VISION = {"baseModel": "./models/qwen2_5_vl", "datasetPath": "./data/vision_test_dataset.jsonl", "isVision": True}
VISION_BY_TYPE = {key: value for key, value in VISION.items() if key != "isVision"}

HUB = {"pushToHub": {"repo": "org/model"}, "hubTokenSecret": {"name": "hub", "key": "token"}}

NEEDS: dict[str | Option, dict[str, Any]] = {
    ("isVision", True): VISION,
    ("modelType", "vision"): VISION_BY_TYPE,
    ("loraConfig.finetuneVisionLayers", True): VISION,
    ("loraConfig.finetuneLanguageLayers", False): VISION | {"loraConfig": {"finetuneVisionLayers": True}},
    ("loraConfig.initLoraWeights", "loftq"): {"quantization": "4bit"},
    "ggufQuantization": {"saveMethod": "gguf"},
    "pushToHub.private": HUB,
    "fetchPictures": VISION,
    "evaluation.compareBase": {
        "validationFraction": 0.25,
        "evaluation": {"metrics": ["exact_match"], "maxNewTokens": 4},
    },
}
"""What a field or one of its values needs beside it."""

PREFERENCES = preference_rows(4)
ROWS: dict[str, list[dict[str, Any]]] = {
    "sft": [
        {"prompt": f"Who is number {number}?", "completion": json.dumps({"name": "Ada", "number": number, "of": None})}
        for number in range(4)
    ],
    "dpo": PREFERENCES,
    "kto": [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row in PREFERENCES
        for side in ("chosen", "rejected")
    ],
    "orpo": PREFERENCES,
    "grpo": [{"prompt": [{"role": "user", "content": row["prompt"]}], "answer": row["chosen"]} for row in PREFERENCES],
}
"""Rows of each training method."""
METHODS: dict[str, dict[str, Any]] = {
    "dpo": {},
    "kto": {"hyperparameters": {"batchSize": 2}},
    "orpo": {},
    "grpo": {
        "grpo": {"numGenerations": 2, "maxCompletionLength": 4},
        "rewards": {"functions": ["similarity"]},
        "hyperparameters": {"batchSize": 2},
    },
}
"""What a training method needs besides its rows."""
OF_METHOD: dict[Option, dict[str, Any]] = {
    ("dpo.lossType", "exo_pair"): {"dpo": {"labelSmoothing": 0.1}},
    ("dpo.lossType", "robust"): {"dpo": {"labelSmoothing": 0.1}},
}

REFUSED: dict[str | Option, str] = {
    ("quantization", "4bit"): "quantization: 4bit needs a GPU",
    ("loraConfig.initLoraWeights", "loftq"): "quantization: 4bit needs a GPU",
    ("quantization", "8bit"): "quantization: 8bit needs a GPU",
    ("backend", "unsloth"): "backend: unsloth needs a GPU",
    ("saveMethod", "merged_4bit"): "merged_4bit needs a GPU",
    ("saveMethod", "gguf"): "needs convert_hf_to_gguf.py",
    ("hyperparameters.optim", "adamw_8bit"): "adamw_8bit needs a GPU",
    ("hyperparameters.optim", "paged_adamw_8bit"): "paged_adamw_8bit needs a GPU",
    ("hyperparameters.optim", "lion_8bit"): "lion_8bit needs a GPU",
    ("hyperparameters.optim", "lion_32bit"): "lion_32bit needs a GPU",
    "ggufQuantization": "needs convert_hf_to_gguf.py",
    "pushToHub.private": "pushToHub",
}
"""What a machine without a GPU, the network and llama.cpp refuses, and the words of the refusal."""


def options(schema: dict[str, Any], definitions: dict[str, Any], path: str = "") -> Iterator[Option]:
    """Every enum value and boolean of a JSON schema."""
    for name, field in schema.get("properties", {}).items():
        here = f"{path}{name}"
        if here in ONLY_IN_A_CLUSTER:
            continue
        for each in field.get("anyOf", [field]):
            part = definitions[each["$ref"].rpartition("/")[2]] if "$ref" in each else each
            values = part.get("enum", [True, False] if part.get("type") == "boolean" else [])
            yield from ((here, value) for value in values)
            yield from options(part, definitions, f"{here}.")


def every_option() -> list[Option]:
    schema = TrainingJobSpec.model_json_schema(by_alias=True)
    return list(options(schema, schema["$defs"]))


def spec_of(path: str, value: Any) -> dict[str, Any]:
    """The fragment of a spec that sets one field."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return dict(value)


@pytest.mark.parametrize("option", every_option(), ids=lambda option: f"{option[0]}={option[1]}")
def test_every_option_trains_or_is_refused_with_its_reason(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, option: Option
) -> None:
    path, value = option
    method = value if path == "method" else path.split(".")[0] if path.split(".")[0] in METHODS else "sft"
    write_rows(workspace.folder / "data/json.jsonl", ROWS[method])
    monkeypatch.delenv("LLAMA_CPP_DIR", raising=False)
    needed = NEEDS.get(option) or NEEDS.get(path) or {}
    base = {} if "baseModel" in needed else TEXT
    of_method = {"method": method} | METHODS[method] if method in METHODS else {}
    needed = merge(merge(of_method, needed), OF_METHOD.get(option, {}))
    parts = (base, needed, {"hyperparameters": {"maxSteps": 2}}, spec_of(path, value))
    refusal = REFUSED.get(option) or REFUSED.get(path)
    if refusal:
        with pytest.raises((TrainingError, ValueError), match=refusal):
            workspace.train(config("option", *parts))
        return
    outcome, _ = workspace.train(config("option", *parts))
    assert outcome.result == "Succeeded" and outcome.progress is not None and outcome.progress.loss is not None
