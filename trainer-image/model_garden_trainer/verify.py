"""``python -m model_garden_trainer verify``: a fresh process that loads what a run saved, and answers one of its rows.

It stands apart from the run so that nothing loaded or patched there can help; it prints one line of JSON.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from model_garden.contract.trainer_config import TrainerConfig
from model_garden_trainer.data import open_data
from model_garden_trainer.encoding import Batch
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.trainers import trainer_for

NEW_TOKENS = 32
TOLERANCE = 0.05
"""Largest distance between merged and adapted logits, as a share of their norm: 16-bit rounding stays well below it."""


def verify(config: TrainerConfig, base: Path, output: Path, merged: Path | None) -> dict[str, Any]:
    """Load adapter and merged model from disk and compare them on one row.

    Returns:
        ``prompt`` and ``answer`` of the row, and ``difference`` between merged and adapted logits where there are both.

    Raises:
        TrainingError: ExportFailed, saying which output is at fault.
    """
    spec = config.spec
    trainer = trainer_for(spec)
    data = open_data(spec, _seed(config))
    example = (data.validation if len(data.validation) else data.training)[0]
    encoder = trainer.encoder(trainer.load_processor(output), spec)
    batch = {key: value.to(_device()) for key, value in encoder([example]).items()}
    model = PeftModel.from_pretrained(_load(config, base), output).eval()
    adapted = _logits(model, batch, output)
    result: dict[str, Any] = {"row": str(example.origin), "answer": _answer(model, batch, encoder.tokenizer)}
    if merged is None:
        return result
    with model.disable_adapter():
        plain = _logits(model, batch, base)
    del model
    encoder = trainer.encoder(trainer.load_processor(merged), spec)
    batch = {key: value.to(_device()) for key, value in encoder([example]).items()}
    fused = _logits(_load(config, merged).eval(), batch, merged)
    difference, change = _distance(fused, adapted), _distance(plain, adapted)
    if difference > TOLERANCE or (change > TOLERANCE and difference > change / 2):
        raise TrainingError(
            "ExportFailed",
            f"{merged}: its logits differ from the adapter's by {difference:.1%} of their norm ({change:.1%} is "
            "what the adapter changes), so the merge went wrong",
        )
    return result | {"difference": difference}


def _load(config: TrainerConfig, folder: Path) -> Any:
    auto = AutoModelForImageTextToText if config.spec.vision else AutoModelForCausalLM
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    return auto.from_pretrained(folder, dtype=dtype, local_files_only=True).to(_device())


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _logits(model: Any, batch: Batch, folder: Path) -> torch.Tensor:
    """Logits of the row's last 64 tokens (64, vocabulary), float32."""
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    with torch.inference_mode():
        logits: torch.Tensor = model(**inputs, use_cache=False).logits[0, -64:].float()
    if not bool(torch.isfinite(logits).all()):
        raise TrainingError("ExportFailed", f"{folder}: the model answers with numbers that are not finite")
    return logits


def _answer(model: Any, batch: Batch, tokenizer: Any) -> str:
    """What the model writes after the row's prompt, greedily."""
    first = int((batch["labels"][0] != -100).nonzero()[0])
    length = batch["input_ids"].shape[1]
    prompt = {
        key: value[:, :first] if value.shape[:2] == (1, length) else value
        for key, value in batch.items()
        if key != "labels"
    }
    with torch.inference_mode():
        written = model.generate(
            **prompt, max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
    return str(tokenizer.decode(written[0, first:], skip_special_tokens=True))


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def _seed(config: TrainerConfig) -> int:
    h = config.spec.hyperparameters
    return (h.seed if h else None) or 0


def main(request: str, config: TrainerConfig) -> None:
    """Read the request that ``outputs.verify`` wrote, and print what was found."""
    asked = json.loads(request)
    merged = Path(asked["merged"]) if asked["merged"] else None
    found = verify(config, Path(asked["base"]), Path(asked["output"]), merged)
    assert math.isfinite(found.get("difference", 0.0))
    print(json.dumps(found), flush=True)
