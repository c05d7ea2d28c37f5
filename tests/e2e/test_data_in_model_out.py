"""A data set of this machine trains a model on the cluster, and the model comes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from demo.steps import ROOT
from tests.e2e.conftest import Demo

pytestmark = [pytest.mark.cluster, pytest.mark.train]
SETTINGS = ("--backend", "transformers", "--quantization", "none", "--max-steps", "2", "--optim", "adamw_torch")


def test_submit_uploads_trains_and_download_brings_the_adapter(demo: Demo, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (ROOT / "data/vision_test_dataset.jsonl").read_text().splitlines()]
    for row in rows:
        row["image"] = str(ROOT / "data" / row["image"])
    mine = tmp_path / "mine.jsonl"
    mine.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = ("--base-model", "./models/tiny-qwen2.5-vl", "--gpus", "0")
    demo.model_garden(
        "submit", "--upload", "--name", "mine", "--vision", "--dataset", str(mine), *model, *SETTINGS, "--wait"
    )
    status = demo.cluster.get("trainingjob", "mine")["status"]
    assert (status["phase"], status["dataset"]["images"]) == ("Succeeded", len(rows))
    out = tmp_path / "out"
    demo.model_garden("download", "mine", "-o", str(out))
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"].endswith("tiny-qwen2.5-vl")
    assert (out / "adapter_model.safetensors").stat().st_size > 0
    assert not (out / "checkpoints").exists()
    listed = demo.model_garden("models", "ls")
    assert "mine" in listed and "adapter" in listed
