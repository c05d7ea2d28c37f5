"""Text rows on a model that reads images too: text defaults, and an image encoder that stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.workspace import QUICK, TEXT, Workspace, config

STEPS: dict[str, Any] = {"hyperparameters": {"maxSteps": 3, "maxSeqLength": 512}, "saveMethod": "merged_16bit"}


@pytest.mark.parametrize("kind", ["qwen3_vl"])
def test_text_trains_the_language_model_alone_and_the_merge_keeps_the_image_encoder(
    workspace: Workspace, tiny_model: Callable[[str], Path], kind: str
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText, AutoProcessor

    base = tiny_model(kind)
    job = config("told", TEXT, QUICK, STEPS, {"baseModel": str(base), "loraConfig": {"r": 8}})
    assert job.spec.hyperparameters.learning_rate == QUICK["hyperparameters"]["learningRate"]
    assert job.spec.hyperparameters.lr_scheduler_type == "linear" and job.spec.image_options is None

    outcome, _ = workspace.train(job)

    assert outcome.result == "Succeeded" and outcome.output and outcome.output.verified
    assert outcome.output.model_class == "AutoModelForImageTextToText"
    output = workspace.folder / "models" / "told"
    names = set(workspace.adapter("told"))
    assert names and all(".language_model." in name for name in names)
    plain = AutoModelForImageTextToText.from_pretrained(base)
    adapted = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base), output).eval()
    merged = AutoModelForImageTextToText.from_pretrained(output / "merged", dtype=torch.float32)
    towers = [
        {name: weight for name, weight in model.state_dict().items() if ".visual." in name} for model in (plain, merged)
    ]
    assert towers[0].keys() == towers[1].keys() and towers[0]
    for name, weight in towers[0].items():
        assert torch.equal(weight.to(torch.bfloat16), towers[1][name].to(torch.bfloat16)), name
    processor = AutoProcessor.from_pretrained(output)
    chat = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    inputs = processor.apply_chat_template(
        chat, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    with torch.inference_mode():
        difference = (adapted(**inputs).logits - merged.eval()(**inputs).logits).abs().max()
        change = (adapted(**inputs).logits - plain.eval()(**inputs).logits).abs().max()
    assert float(difference) < 0.1 < 10 * float(change)
