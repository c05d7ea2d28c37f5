"""The demo's base models are made once for each recipe."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from transformers import AutoProcessor

from demo.tiny_models import RECIPE, Painter, _scenes, make_demo_model
from model_garden.datasets.samples import SIZE, draw
from testing.tiny_models import Variant, make_tiny_model


def test_a_model_is_made_once_and_again_when_its_recipe_changed(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "tiny"
    assert make_demo_model("qwen2", folder) and not make_demo_model("qwen2", folder)
    (folder / RECIPE).write_text(json.dumps({"kind": "qwen2", "sha256": "of another recipe"}))
    assert make_demo_model("qwen2", folder) and (folder / "model.safetensors").exists()


def test_painted_pictures_are_the_drawn_ones(tmp_path: Path) -> None:
    folder = make_tiny_model("qwen2_5_vl", tmp_path / "model", variant=Variant(merge=4))
    encoder = AutoProcessor.from_pretrained(folder).image_processor
    size = {"shortest_edge": 3136, "longest_edge": 3136}
    paint = Painter(encoder)
    for scene in _scenes(random.Random(0), 8):
        drawn = encoder(images=[draw(scene)], return_tensors="pt", size=size)
        assert drawn["image_grid_thw"].tolist() == paint([scene])["image_grid_thw"].tolist() == [[1, 4, 4]]
        difference = (drawn["pixel_values"] - paint([scene])["pixel_values"]).abs()
        assert SIZE == 224 and difference.max() < 0.5 and torch.mean(difference) < 0.02
