"""Full fine-tuning: all weights learn, a stopped run resumes to the last bit, and the output is a model of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from model_garden_trainer.engine.stopping import StopRequests
from model_garden_trainer.errors import Stopped
from tests.trainer.test_fit import same, stop_at
from tests.trainer.workspace import TEXT, VISION, Workspace, config

pytestmark = pytest.mark.train

FULL = {
    "adapter": "none",
    "hyperparameters": {"maxSteps": 3, "learningRate": 1e-2, "batchSize": 2, "gradientAccumulationSteps": 2},
}


def weights(name: str, kind: Any = AutoModelForCausalLM) -> dict[str, torch.Tensor]:
    model = kind.from_pretrained(f"models/{name}", dtype=torch.float32)
    return {key: value.detach() for key, value in model.named_parameters()}


def test_all_weights_of_a_language_model_learn_and_the_output_needs_no_base_model(workspace: Workspace) -> None:
    rows = [{"prompt": f"What is {number}?", "completion": f"It is {number}."} for number in range(4)]
    (workspace.folder / "data/few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    few = {"datasetPath": "./data/few.jsonl"}
    outcome, told = workspace.train(config("whole", TEXT, FULL, few))
    assert told.losses[3] < told.losses[1]
    made = outcome.output
    assert made is not None and made.verified and made.samples is not None
    assert made.adapter_path is None and made.merged_path == made.path == "./models/whole"
    card = (workspace.folder / "models/whole/README.md").read_text()
    assert "AutoModelForCausalLM.from_pretrained('./models/whole')" in card and "library_name: transformers" in card
    assert json.loads((workspace.folder / "models/whole/config.json").read_text())["use_cache"] is True

    before, after = weights("qwen2"), weights("whole")
    assert [name for name in before if torch.equal(before[name], after[name])] == []

    requests = StopRequests()
    with pytest.raises(Stopped):
        workspace.train(config("broken", TEXT, FULL, few), requests=requests, on_event=stop_at(1, requests))
    _, resumed = workspace.train(config("broken", TEXT, FULL, few))
    assert resumed.resumed == [2]
    assert same(after, weights("broken"))


@pytest.mark.parametrize("tower", [False, True], ids=["language", "tower too"])
def test_the_vision_tower_and_its_connector_learn_only_if_asked(workspace: Workspace, tower: bool) -> None:
    job = config("out", VISION, FULL, {"loraConfig": {"finetuneVisionLayers": tower}})
    requests = StopRequests()
    with pytest.raises(Stopped):
        workspace.train(job, requests=requests, on_event=stop_at(1, requests))
    outcome, told = workspace.train(job)
    assert told.resumed == [2] and outcome.output is not None and outcome.output.verified
    before, after = (weights(name, AutoModelForImageTextToText) for name in ("qwen2_5_vl", "out"))
    still = {name for name in before if torch.equal(before[name].bfloat16(), after[name].bfloat16())}
    assert {"visual" in name for name in before.keys() - still} == ({True, False} if tower else {False})
    assert not [name for name in still if "visual" not in name]
    assert Path("models/out/processor_config.json").is_file() or Path("models/out/preprocessor_config.json").is_file()
