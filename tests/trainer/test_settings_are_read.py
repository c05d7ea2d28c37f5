"""Every setting of the spec that the trainer is given is read by it: none is accepted and then ignored."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from model_garden.contract.fields import spec_fields

TRAINER = Path(__file__).parents[2] / "trainer-image" / "model_garden_trainer"
GROUPS = ("hyperparameters", "lora_config", "health", "push_to_hub")
READ_TOGETHER = {"min_pixels", "max_pixels"}
"""What ``EffectiveSpec.pixel_bounds`` hands on."""

READ = {
    node.attr
    for path in TRAINER.rglob("*.py")
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Attribute)
}


@pytest.mark.parametrize("name", sorted({f.path[-1] for f in spec_fields() if f.path[0] in GROUPS}))
def test_the_trainer_reads(name: str) -> None:
    assert name in READ


def test_the_trainer_reads_the_bounds_of_pictures() -> None:
    assert "pixel_bounds" in READ
    assert {f.path[-1] for f in spec_fields() if f.path[0] == "image_options"} == READ_TOGETHER
