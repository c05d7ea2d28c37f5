"""DPO, KTO, ORPO and GRPO on a tiny vision-language model: it learns, and stops, resumes and is exported as by SFT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from testing.tiny_families import FAMILIES, make_tiny
from tests.trainer.preferences import COLORS, LETTERS, assert_a_resumed_run_equals, write_rows
from tests.trainer.workspace import VISION, Workspace, config

pytestmark = pytest.mark.train

JOB: dict[str, Any] = {
    "datasetPath": "./data/rows.jsonl",
    "hyperparameters": {
        "learningRate": 5e-3, "batchSize": 4, "gradientAccumulationSteps": 1, "maxSteps": 5, "loggingSteps": 1,
        "saveSteps": 100, "evalSteps": 5, "lrSchedulerType": "constant", "maxSeqLength": 256,
    },
    "loraConfig": {"r": 8, "loraAlpha": 16, "loraDropout": 0.1},
    "validationFraction": 0.2,
    "saveMethod": "merged_16bit",
}  # fmt: skip
METHODS: dict[str, dict[str, Any]] = {
    "dpo": {},
    "kto": {},
    "orpo": {},
    "grpo": {
        "grpo": {"numGenerations": 16, "maxCompletionLength": 8, "beta": 0.04},
        "rewards": {"functions": ["letters"], "file": "./data/rewards.py"},
        "loraConfig": {"loraAlpha": 32, "loraDropout": 0.0},
        "hyperparameters": {"learningRate": 1e-2, "batchSize": 16, "gradientAccumulationSteps": 2, "maxSteps": 9},
    },
}


def rows_of(method: str) -> list[dict[str, Any]]:
    """Rows of a method about one image, two images, or none."""
    rows: list[dict[str, Any]] = []
    for number in range(6):
        pictures = [f"{number % 3}.png", "0.png"][: (1, 2, 0)[number % 3]]
        asked = {"prompt": [{"role": "user", "content": "<image>" * len(pictures) + f"Color {number}?"}]}
        if method in ("dpo", "orpo"):
            rows.append(asked | {"images": pictures, "chosen": COLORS[number % 2], "rejected": "I cannot tell."})
        elif method == "kto":
            rows += [
                asked | {"images": pictures, "completion": text, "label": text in COLORS}
                for text in (COLORS[number % 2], "I cannot tell.")
            ]
        else:
            rows.append(asked | {"images": pictures})
    return rows


@pytest.fixture
def pictures(workspace: Workspace) -> Workspace:
    """The workspace with three images and a file with a reward function."""
    for number in range(3):
        size = (56, 28 + 28 * number)
        Image.new("RGB", size, ("red", "green", "blue")[number]).save(workspace.folder / f"data/{number}.png")
    (workspace.folder / "data/rewards.py").write_text(LETTERS)
    return workspace


@pytest.mark.parametrize("method", METHODS)
def test_it_learns_resumes_and_is_exported(pictures: Workspace, method: str) -> None:
    write_rows(pictures.folder / "data/rows.jsonl", rows_of(method))
    job = (VISION, JOB, {"method": method}, METHODS[method])
    outcome, _ = pictures.train(config("whole", *job))
    assert outcome.result == "Succeeded" and outcome.output is not None and outcome.output.verified
    assert (pictures.folder / "models/whole/merged/model.safetensors").is_file()
    figures = [line["metrics"] for line in pictures.metrics("whole") if "loss" in line]
    if method == "grpo":
        rewards = [one["reward"] for one in figures]
        assert sum(rewards[-3:]) > sum(rewards[:3]) + 0.2, rewards
    else:
        assert figures[-1]["rewards/margins"] > figures[0]["rewards/margins"] + (0.02 if method == "orpo" else 0.3)
    assert_a_resumed_run_equals(pictures, "whole", config("broken", *job))


def test_an_answer_is_trained_on_with_the_images_and_the_tokens_that_it_was_written_to(pictures: Workspace) -> None:
    """Rows with two, one and no images, padded on the left: each answer is as likely as in a pass of its row alone."""
    from transformers import AutoModelForImageTextToText

    from model_garden_trainer.batches.splits import open_data
    from model_garden_trainer.methods.prompts import PromptInputs
    from model_garden_trainer.models import auto_classes

    write_rows(pictures.folder / "data/rows.jsonl", rows_of("grpo"))
    rewards = {"functions": ["length"], "maxLength": 9}
    spec = config("rows", VISION, {"method": "grpo", "datasetPath": "./data/rows.jsonl", "rewards": rewards}).spec
    encoder = auto_classes.collator(spec, Path(spec.base_model))
    examples = list(open_data(spec, 1).training)[:3]
    model = AutoModelForImageTextToText.from_pretrained(spec.base_model, dtype=torch.float32).eval()
    device, answer = torch.device("cpu"), torch.tensor([[65, 66, 67]])

    def logits(rows: list[Any]) -> torch.Tensor:
        inputs = PromptInputs.of(rows, encoder)
        longest = max(map(len, inputs.ids))
        padded = torch.stack([torch.tensor([0] * (longest - len(ids)) + ids) for ids in inputs.ids])
        mask = torch.stack([torch.tensor([0] * (longest - len(ids)) + [1] * len(ids)) for ids in inputs.ids])
        told = torch.cat([padded, answer.expand(len(rows), -1)], dim=1)
        seen = torch.cat([mask, torch.ones(len(rows), 3, dtype=torch.long)], dim=1)
        with torch.no_grad():
            found = model(input_ids=told, attention_mask=seen, **inputs.all(device, prompt=longest, answer=3)).logits
        return torch.as_tensor(found[:, -4:])

    together = logits(examples[::-1])
    alone = torch.cat([logits([example]) for example in examples[::-1]])
    assert torch.allclose(together, alone, atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-2)


@pytest.mark.filterwarnings("ignore:`hidden_state` is deprecated:FutureWarning")  # of transformers' Mllama
def test_kto_reads_the_answers_of_other_rows_with_the_images_of_a_row(pictures: Workspace) -> None:
    """Llama 3.2 Vision has a mask of images over tokens, and mismatched rows may be longer than the rows."""
    from transformers import AutoModelForImageTextToText

    from model_garden_trainer.batches.splits import open_data
    from model_garden_trainer.methods.kto import LabelCollator, mismatched
    from model_garden_trainer.models import auto_classes

    make_tiny(next(one for one in FAMILIES if one.kind == "mllama"), pictures.folder / "models/mllama")
    asked = {"prompt": [{"role": "user", "content": "<image><image>Which color, and which color is the other one?"}]}
    rows = [asked | {"images": ["0.png", "1.png"], "completion": "red", "label": True}]
    rows += [{"prompt": "Hi", "completion": "I cannot tell, since I see no image.", "label": False}]
    write_rows(pictures.folder / "data/rows.jsonl", rows)
    steps = {"hyperparameters": {"maxSteps": 1, "batchSize": 2, "gradientAccumulationSteps": 1, "maxSeqLength": 256}}
    llama = {"baseModel": "./models/mllama", "datasetPath": "./data/rows.jsonl", "method": "kto", "saveMethod": "lora"}
    job = config("llama", VISION, llama, steps)
    outcome, _ = pictures.train(job)
    assert outcome.result == "Succeeded", outcome.message

    encoder = auto_classes.collator(job.spec, Path(job.spec.base_model))
    examples = tuple(open_data(job.spec, 1).training)
    batch = LabelCollator(encoder, examples)(list(examples))
    alone = encoder(mismatched(list(examples), ())[:1])
    model = AutoModelForImageTextToText.from_pretrained(job.spec.base_model, dtype=torch.float32).eval()
    told = {name: batch[f"KL_{name}"] for name in ("input_ids", "attention_mask")}
    images = {name: batch[name] for name in alone.keys() - told.keys() - {"labels"}}
    answered = alone.pop("labels")[0] != -100
    assert batch["input_ids"].shape[1] < len(answered)
    with torch.no_grad():
        together, expected = model(**told, **images).logits[0, : len(answered)], model(**alone).logits[0]
    assert torch.allclose(together[answered], expected[answered], atol=1e-4)
