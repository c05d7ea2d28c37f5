"""Writes what is trained on: random models and the rows of three data sets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from model_garden.contract.defaults import merge
from model_garden_trainer.models.quantized import quantization_config
from testing.model_configs import QWEN2_5_3B, QWEN2_5_VL_3B
from testing.tiny_models import make_tiny_model
from tools.gpu_check import plan

DATA = Path(__file__).parents[2] / "data"


def make(what: str, *, quick: bool) -> dict[str, Any]:
    """Write, below the working directory, ``small`` models and all rows, the ``real`` model, or the ``4-bit`` one.

    The small models have 2 layers as wide as the real ones, so that they take the same kernels. With ``quick`` all
    models are tiny.
    """
    if what == "small":
        _rows()
        _model("qwen2_5_vl", Path(plan.SMALL), None if quick else _vision_config(layers=2))
        _model("qwen2", Path(plan.TEXT), None if quick else _text_config(layers=2))
    elif what == "real":
        _model("qwen2_5_vl", Path(plan.REAL), None if quick else _vision_config())
    else:
        asked = quantization_config("4bit")
        model = AutoModelForImageTextToText.from_pretrained(
            plan.SMALL, dtype=torch.bfloat16, quantization_config=asked, device_map={"": 0}
        )
        shutil.copytree(plan.SMALL, plan.SMALL_4BIT, ignore=shutil.ignore_patterns("*.safetensors*"))
        model.save_pretrained(plan.SMALL_4BIT)
    return {}


def _rows() -> None:
    vision, text = DATA / "vision_test_dataset.jsonl", DATA / "text_test_dataset.jsonl"
    Path(plan.VISION_ROWS).parent.mkdir(parents=True)
    shutil.copytree(DATA / f"{vision.stem}_images", Path(plan.VISION_ROWS).with_name(f"{vision.stem}_images"))
    for source, target in ((vision, plan.VISION_ROWS), (text, plan.TEXT_ROWS)):
        _write(target, source.read_text().splitlines())
    Path(plan.TWO_ROWS).write_text("\n".join(vision.read_text().splitlines()[:2]) + "\n")
    questions = [row["messages"][:-1] for row in map(json.loads, text.read_text().splitlines())]
    answers = [row["messages"][-1:] for row in map(json.loads, text.read_text().splitlines())]
    looks = [
        {"prompt": row["text"], "image": row["image"], "answer": row["response"]}
        for row in map(json.loads, vision.read_text().splitlines())
    ]
    prompts = [
        {"prompt": question, "answer": answer["content"]} for question, [answer] in zip(questions, answers, strict=True)
    ]
    _write(plan.TEXT_PROMPTS, map(json.dumps, prompts))
    _write(plan.VISION_PROMPTS, map(json.dumps, looks))
    pairs = [
        {"prompt": question, "chosen": answer, "rejected": other}
        for question, answer, other in zip(questions, answers, answers[1:] + answers[:1], strict=True)
    ]
    _write(plan.PAIRS, [json.dumps(pair) for pair in pairs])


def _write(path: str, lines: Iterable[str]) -> None:
    Path(path).write_text("\n".join(islice(cycle(lines), plan.ROWS)) + "\n")


def _model(kind: Any, folder: Path, sizes: dict[str, Any] | None) -> None:
    """A tiny model; with ``sizes`` one of these in bfloat16, whose processor and special tokens are the tiny one's."""
    make_tiny_model(kind, folder)
    if sizes is None:
        return
    path = folder / "config.json"
    path.write_text(json.dumps(resized(json.loads(path.read_text()), sizes)))
    (folder / "model.safetensors").unlink()
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    auto = AutoModelForImageTextToText if "vision_config" in sizes else AutoModelForCausalLM
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = auto.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)


def resized(tiny: dict[str, Any], sizes: dict[str, Any]) -> dict[str, Any]:
    """The tiny model's config.json with other sizes, those of its vocabulary included.

    Args:
        tiny: a config with ``text_config`` and ``vision_config``, or a text model's.
        sizes: a flat config, of ``testing.model_configs``.
    """
    own = {key: value for key, value in sizes.items() if key not in ("model_type", "vision_config")}
    if "vision_config" not in sizes:
        config = merge(tiny, own)
        config.pop("layer_types", None)  # one for each layer; transformers fills it in
        return config | {"dtype": "bfloat16"}
    text = merge(tiny["text_config"], own | {"rope_parameters": {"mrope_section": [16, 24, 24]}})  # half of 128
    text.pop("layer_types", None)
    vision = merge(tiny["vision_config"], sizes["vision_config"])
    tied = sizes["tie_word_embeddings"]
    return tiny | {"text_config": text, "vision_config": vision, "tie_word_embeddings": tied, "dtype": "bfloat16"}


def _vision_config(layers: int | None = None) -> dict[str, Any]:
    if layers is None:
        return QWEN2_5_VL_3B
    shallow = {"depth": layers, "fullatt_block_indexes": [layers - 1]}
    return merge(QWEN2_5_VL_3B, {"num_hidden_layers": layers, "vision_config": shallow})


def _text_config(layers: int) -> dict[str, Any]:
    return merge(QWEN2_5_3B, {"num_hidden_layers": layers})
