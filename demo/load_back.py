"""Loads a trained adapter as anybody would, with transformers and peft alone, and compares it with its base model.

    python demo/load_back.py models/vision data/vision_test_dataset.jsonl

Prints one JSON line: the mean loss of the data set's answers under the base model and with the adapter. It imports
nothing of Model Garden, so that what it shows does not rest on the code that wrote the model.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from PIL import Image
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

Row = dict[str, Any]


def main(adapter: str, dataset: str) -> None:
    """Load, score with and without the adapter, print."""
    base = PeftConfig.from_pretrained(adapter).base_model_name_or_path
    vision = hasattr(AutoConfig.from_pretrained(base), "vision_config")
    reader = (AutoProcessor if vision else AutoTokenizer).from_pretrained(adapter)
    auto = AutoModelForImageTextToText if vision else AutoModelForCausalLM
    model = PeftModel.from_pretrained(auto.from_pretrained(base, dtype=torch.float32), adapter).eval()
    folder = Path(dataset).parent
    rows = [json.loads(line) for line in Path(dataset).read_text().splitlines()]
    if vision:  # pictures are given in the size that they were trained in
        trained = json.loads((Path(adapter) / "training_config.json").read_text())["spec"]["imageOptions"]
        reader.image_processor.max_pixels = trained["maxPixels"]
        reader.image_processor.size = {"shortest_edge": trained["minPixels"], "longest_edge": trained["maxPixels"]}
    batches = [_vision_batch(reader, row, folder) if vision else _text_batch(reader, row) for row in rows]
    with torch.no_grad():
        tuned = [model(**batch).loss.item() for batch in batches]
        with model.disable_adapter():
            untuned = [model(**batch).loss.item() for batch in batches]
    print(json.dumps({"rows": len(rows), "base": sum(untuned) / len(rows), "tuned": sum(tuned) / len(rows)}))


def _vision_batch(processor: Any, row: Row, folder: Path) -> dict[str, torch.Tensor]:
    question = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": row["text"]}]}
    answer = {"role": "assistant", "content": [{"type": "text", "text": row["response"]}]}
    image = Image.open(folder / row["image"]).convert("RGB")
    prompt = processor.apply_chat_template([question], tokenize=False, add_generation_prompt=True)
    whole = processor.apply_chat_template([question, answer], tokenize=False)
    start = processor(text=[prompt], images=[image], return_tensors="pt")["input_ids"].shape[1]
    return _with_labels(processor(text=[whole], images=[image], return_tensors="pt"), start)


def _text_batch(tokenizer: Any, row: Row) -> dict[str, torch.Tensor]:
    *prompt, _ = row["messages"]
    start = len(tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"])
    whole = tokenizer.apply_chat_template(row["messages"], return_dict=True, return_tensors="pt")
    return _with_labels(whole, start)


def _with_labels(batch: Any, start: int) -> dict[str, torch.Tensor]:
    """The batch with loss on what follows the prompt only."""
    labels = batch["input_ids"].clone()
    labels[:, :start] = -100
    return {**batch, "labels": labels}


if __name__ == "__main__":
    main(*sys.argv[1:])
