"""TRL's SFTTrainer as its documentation uses it, and Unsloth's as its notebooks do: what the trainer is held against.

Both train 4-bit weights on a GPU, with gradient checkpointing, and with the adapters, data and optimizer of the spec.
"""

# ruff: noqa: ARG002  the signatures are those of TrainerCallback

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from tools.gpu_check.parts import take_peak


class _Timed(TrainerCallback):
    """Seconds from the end of a step to the end of the next, once the GPU is done."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self._began = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self.steps:
            self._began = _now()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = _now()
        self.steps.append({"step": state.global_step, "secondsPerStep": now - self._began})
        self._began = now

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        if self.steps and "loss" in logs:
            self.steps[-1] |= {"loss": float(logs["loss"]), "gradNorm": float(logs["grad_norm"])}


def train(spec: Any) -> dict[str, Any]:
    """Train as the spec says; steps, memory and batch, named as those of a run of the trainer."""
    h, timed = spec.hyperparameters, _Timed()
    set_seed(h.seed)
    setup = _unsloth if spec.backend == "unsloth" else _trl
    trainer = SFTTrainer(**setup(spec), callbacks=[timed])
    take_peak()
    trainer.train()
    batch = f"{h.batch_size} x {h.gradient_accumulation_steps}"
    return {"steps": timed.steps, "batch": batch, "packing": False, "memory": {"training": take_peak()}, "trace": None}


def _settings(spec: Any, **more: Any) -> SFTConfig:
    gpu, h = torch.cuda.is_available(), spec.hyperparameters
    return SFTConfig(
        output_dir=str(spec.output_dir),
        max_steps=h.max_steps,
        per_device_train_batch_size=h.batch_size,
        gradient_accumulation_steps=h.gradient_accumulation_steps,
        learning_rate=h.learning_rate,
        lr_scheduler_type=h.lr_scheduler_type,
        optim=h.optim,
        seed=h.seed,
        remove_unused_columns=False,
        use_cpu=not gpu,
        bf16=gpu,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **more,
    )


def _trl(spec: Any) -> dict[str, Any]:
    gpu, lora = torch.cuda.is_available(), spec.lora_config
    options: dict[str, Any] = {"dtype": torch.bfloat16 if gpu else torch.float32, "attn_implementation": "sdpa"}
    if gpu:
        options["device_map"] = {"": 0}
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    checkpointing = {"gradient_checkpointing": gpu, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    targets = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    return {
        "model": AutoModelForImageTextToText.from_pretrained(spec.base_model, **options),
        "processing_class": AutoProcessor.from_pretrained(spec.base_model),
        "train_dataset": _rows(spec, _prompt_and_completion),
        "peft_config": LoraConfig(r=lora.r, lora_alpha=lora.lora_alpha, target_modules=targets),
        "args": _settings(spec, max_length=None, **checkpointing),
    }


def _unsloth(spec: Any) -> dict[str, Any]:
    from unsloth import FastVisionModel
    from unsloth.trainer import UnslothVisionDataCollator

    gpu, h, lora = torch.cuda.is_available(), spec.hyperparameters, spec.lora_config
    model, processor = FastVisionModel.from_pretrained(
        str(spec.base_model),
        max_seq_length=h.max_seq_length,
        dtype=torch.bfloat16 if gpu else torch.float32,
        load_in_4bit=gpu,
        use_gradient_checkpointing="unsloth",
        local_files_only=True,
    )
    model = FastVisionModel.get_peft_model(
        model, r=lora.r, lora_alpha=lora.lora_alpha, lora_dropout=0, bias="none", finetune_vision_layers=False
    )
    FastVisionModel.for_training(model)
    marks = {"instruction_part": "<|im_start|>user\n", "response_part": "<|im_start|>assistant\n"}
    return {
        "model": model,
        "processing_class": processor.tokenizer,
        "data_collator": UnslothVisionDataCollator(model, processor, train_on_responses_only=True, **marks),
        "train_dataset": _rows(spec, _messages),
        "args": _settings(
            spec, max_length=h.max_seq_length, dataset_text_field="", dataset_kwargs={"skip_prepare_dataset": True}
        ),
    }


def _rows(spec: Any, columns: Callable[[Path, dict[str, list[str]]], dict[str, list[Any]]]) -> Dataset:
    """The rows of the spec's data set; an image is opened when its row is taken."""
    path = Path(spec.dataset_path)
    rows = Dataset.from_list([json.loads(line) for line in path.read_text().splitlines()])
    return rows.with_transform(partial(columns, path.parent))


def _prompt_and_completion(folder: Path, batch: dict[str, list[str]]) -> dict[str, list[Any]]:
    return {
        "prompt": [[{"role": "user", "content": text}] for text in batch["text"]],
        "completion": [[{"role": "assistant", "content": answer}] for answer in batch["response"]],
        "images": [[_opened(folder / image)] for image in batch["image"]],
    }


def _messages(folder: Path, batch: dict[str, list[str]]) -> dict[str, list[Any]]:
    def turn(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
        return {"role": role, "content": list(parts)}

    rows = zip(batch["text"], batch["image"], batch["response"], strict=True)
    return {
        "messages": [
            [
                turn("user", {"type": "image", "image": _opened(folder / image)}, {"type": "text", "text": text}),
                turn("assistant", {"type": "text", "text": answer}),
            ]
            for text, image, answer in rows
        ]
    }


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
