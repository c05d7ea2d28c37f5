"""Base models for a demo that learns to see: a vision model that names what it sees, and random models of other kinds.

``make demo`` does not use them yet: it takes the random models of ``testing.tiny_models``, whose adapters memorize
answers but do not learn to see. The vision model is trained here, from nothing, on images of shapes that are drawn for
it: asked ``shape?`` it answers ``circle``. ``recipe.json`` in its folder holds a hash of the code that made it: a model
of the same recipe is not made again.

    python -m demo.tiny_models ./models/tiny-qwen2.5-vl --kind qwen2_5_vl
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, get_args

import torch
from PIL import Image
from torch.nn.functional import cross_entropy, rms_norm
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging

from model_garden.datasets import samples
from model_garden.datasets.samples import BACKGROUNDS, COLORS, COLUMNS, ROWS, SHAPES, SIZE, SIZES, Scene, draw
from testing import tiny_models

RECIPE = "recipe.json"
PICTURE = 56
"""Side in pixels of the pictures that the model learns from: they become one image token."""
SEEING_STEPS, SEEING_BATCH = 150, 128
NAMING_STEPS, NAMING_BATCH = 180, 64
LEARNING_RATE = 3e-3
IGNORED = -100
EVERYTHING = "everything"
PLACES = [f"{row} {column}" for row in ROWS for column in COLUMNS]
FACTS: dict[str, tuple[list[str], Callable[[Scene], str]]] = {
    "size": (list(SIZES), lambda scene: scene.size),
    "color": (list(COLORS), lambda scene: scene.color),
    "shape": (list(SHAPES), lambda scene: scene.shape),
    "place": (PLACES, lambda scene: f"{scene.row} {scene.column}"),
    "background": (list(BACKGROUNDS), lambda scene: scene.background),
}
"""What the model is asked for: the values there are, and that of a scene."""

Batch = dict[str, torch.Tensor]


def make_demo_model(kind: tiny_models.Kind, folder: Path) -> bool:
    """Write the demo's base model of ``kind`` to ``folder``; False if it is there already."""
    recipe = recipe_hash(kind)
    if (folder / RECIPE).exists() and json.loads((folder / RECIPE).read_text()) == recipe:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    if kind == "qwen2_5_vl":
        _pretrain(folder)
    else:
        tiny_models.make_tiny_model(kind, folder)
    (folder / RECIPE).write_text(json.dumps(recipe))
    return True


def recipe_hash(kind: str) -> dict[str, str]:
    """A hash of all that shapes a model: its kind, and the code that makes it and draws its pictures."""
    code = b"".join(Path(str(file)).read_bytes() for file in (__file__, tiny_models.__file__, samples.__file__))
    return {"kind": kind, "sha256": hashlib.sha256(code).hexdigest()}


def _pretrain(folder: Path) -> None:
    """Make a random model and train all its weights: first to see, then to name what it sees."""
    words = ("system", "You are a helpful assistant.", "user", "assistant", EVERYTHING, *FACTS)
    corpus = tuple(f"{word}\n" for word in words) * 50
    variant = tiny_models.Variant(hidden=128, vision_hidden=64, merge=4, merges=500, corpus=corpus)
    tiny_models.make_tiny_model("qwen2_5_vl", folder, variant=variant)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    torch.manual_seed(0)
    rng = random.Random("pretraining")
    painter = Painter(processor.image_processor)
    _initialize(model, painter, rng)
    _learn_to_see(model.model.visual, painter, rng)
    _learn_to_name(model, processor, painter, rng)
    model.save_pretrained(folder)


class Painter:
    """Pictures of scenes as a vision model takes them, without drawing each.

    A picture is a mix of two plain colors, so that one mask for each shape, size and place serves them all.
    """

    def __init__(self, image_processor: Any) -> None:
        def pixels(image: Image.Image) -> torch.Tensor:
            resized = image.resize((PICTURE, PICTURE), Image.Resampling.BICUBIC)
            encoded = image_processor(images=[resized], return_tensors="pt")
            self.grid: torch.Tensor = encoded["image_grid_thw"]
            values: torch.Tensor = encoded["pixel_values"]
            return values

        colors = (COLORS | BACKGROUNDS).items()
        self.plain = {color: pixels(Image.new("RGB", (SIZE, SIZE), value)) for color, value in colors}
        low, high = self.plain["black"], self.plain["white"]
        self.masks = {
            (shape, size, row, column): (pixels(draw(Scene(shape, "white", size, row, column, "black"))) - low)
            / (high - low)
            for shape, size, row, column in product(SHAPES, SIZES, ROWS, COLUMNS)
        }

    def __call__(self, scenes: list[Scene]) -> Batch:
        """``pixel_values`` (patches, values) and ``image_grid_thw`` (pictures, 3)."""
        return {
            "pixel_values": torch.cat([self._paint(scene) for scene in scenes]),
            "image_grid_thw": self.grid.expand(len(scenes), 3),
        }

    def _paint(self, scene: Scene) -> torch.Tensor:
        below, above = self.plain[scene.background], self.plain[scene.color]
        return torch.lerp(below, above, self.masks[scene.shape, scene.size, scene.row, scene.column])


def _scenes(rng: random.Random, n: int) -> list[Scene]:
    def scene() -> Scene:
        background = rng.choice(list(BACKGROUNDS))
        color = rng.choice([color for color in COLORS if color != background])
        shape, size, row, column = (rng.choice(list(values)) for values in (SHAPES, SIZES, ROWS, COLUMNS))
        return Scene(shape, color, size, row, column, background)

    return [scene() for _ in range(n)]


def _initialize(model: Any, painter: Painter, rng: random.Random) -> None:
    """Weights that keep the scale of their input; patches are embedded by their whitened principal components.

    Small differences between pictures then count as much as large ones (Krähenbühl et al., Data-dependent
    Initializations of Convolutional Neural Networks, ICLR 2016).
    """
    for name, weights in model.named_parameters():
        if weights.dim() > 1 and "embed_tokens" not in name:
            torch.nn.init.normal_(weights, std=weights[0].numel() ** -0.5)
    embedding = model.model.visual.patch_embed.proj.weight
    patches = painter(_scenes(rng, 600))["pixel_values"]
    _, scale, components = torch.svd_lowrank(patches, q=len(embedding), niter=2)
    whitened = (components / scale * len(patches) ** 0.5).T
    embedding.data = whitened.reshape(embedding.shape).contiguous()


def _learn_to_see(vision: Any, painter: Painter, rng: random.Random) -> None:
    """Train the vision part by linear readouts of its image token, one for each fact, which are then dropped."""
    hidden = vision.config.out_hidden_size
    readouts = torch.nn.ModuleDict({fact: torch.nn.Linear(hidden, len(values)) for fact, (values, _) in FACTS.items()})

    def loss() -> torch.Tensor:
        scenes = _scenes(rng, SEEING_BATCH)
        seen = painter(scenes)
        token = rms_norm(vision(seen["pixel_values"], seen["image_grid_thw"]).pooler_output, (hidden,))
        return torch.stack(
            [
                cross_entropy(readouts[fact](token), torch.tensor([values.index(value(scene)) for scene in scenes]))
                for fact, (values, value) in FACTS.items()
            ]
        ).sum()

    _train([*vision.parameters(), *readouts.parameters()], loss, SEEING_STEPS)


def _learn_to_name(model: Any, processor: Any, painter: Painter, rng: random.Random) -> None:
    """Train the language part to answer ``color?`` with ``red``, and ``everything?`` with all facts in their order."""
    model.model.visual.requires_grad_(False)
    tokenizer = processor.tokenizer
    questions = {fact: _prompt(processor, f"{fact}?") for fact in (*FACTS, EVERYTHING)}
    answers = {value: tokenizer(value)["input_ids"] for values, _ in FACTS.values() for value in values}
    comma, end = tokenizer(", ")["input_ids"], [tokenizer.eos_token_id]

    def row(scene: Scene) -> tuple[list[int], list[int]]:
        asked = EVERYTHING if rng.random() < 0.5 else rng.choice(list(FACTS))
        named = [answers[value(scene)] for fact, (_, value) in FACTS.items() if asked in (fact, EVERYTHING)]
        answer = [token for words in named for token in (*comma, *words)][len(comma) :] + end
        return questions[asked] + answer, [IGNORED] * len(questions[asked]) + answer

    def loss() -> torch.Tensor:
        scenes = _scenes(rng, NAMING_BATCH)
        rows = [row(scene) for scene in scenes]
        length = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([ids + [tokenizer.pad_token_id] * (length - len(ids)) for ids, _ in rows])
        labels = torch.tensor([labels + [IGNORED] * (length - len(labels)) for _, labels in rows])
        kinds = (ids == model.config.image_token_id).int()
        mask = (ids != tokenizer.pad_token_id).int()
        found: torch.Tensor = model(
            input_ids=ids, labels=labels, attention_mask=mask, mm_token_type_ids=kinds, **painter(scenes)
        ).loss
        return found

    _train([weights for weights in model.parameters() if weights.requires_grad], loss, NAMING_STEPS)


def _prompt(processor: Any, question: str) -> list[int]:
    content = [{"type": "image"}, {"type": "text", "text": question}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    ids: list[int] = processor.tokenizer(text)["input_ids"]
    return ids


def _train(parameters: list[Any], loss: Callable[[], torch.Tensor], steps: int) -> None:
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        found = loss()
        optimizer.zero_grad()
        found.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 50 == 0 or step + 1 == steps:
            print(f"step {step + 1}/{steps}  loss {found.item():.4f}", flush=True)


def main() -> None:
    """The command line: ``OUT_DIR --kind KIND``."""
    parser = argparse.ArgumentParser(prog="python -m demo.tiny_models", description="Write a base model of the demo.")
    parser.add_argument("folder", type=Path, metavar="OUT_DIR")
    parser.add_argument("--kind", required=True, choices=get_args(tiny_models.Kind))
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    made = make_demo_model(arguments.kind, arguments.folder)
    print(f"{arguments.folder} is {'made' if made else 'there'}: {arguments.kind}")


if __name__ == "__main__":
    main()
