"""TRL's SFTTrainer as it is, with the published settings: batch 1 x 8, on a GPU 4-bit and gradient checkpointing."""

# ruff: noqa: ARG002  the signatures are those of TrainerCallback

from __future__ import annotations

import json
import time
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
    trainer = SFTTrainer(**_setup(spec), callbacks=[timed])
    take_peak()
    trainer.train()
    batch = f"{h.batch_size} x {h.gradient_accumulation_steps}"
    return {"steps": timed.steps, "batch": batch, "packing": False, "memory": {"training": take_peak()}, "trace": None}


def _setup(spec: Any) -> dict[str, Any]:
    gpu, h, lora = torch.cuda.is_available(), spec.hyperparameters, spec.lora_config
    options: dict[str, Any] = {"dtype": torch.bfloat16 if gpu else torch.float32, "attn_implementation": "sdpa"}
    if gpu:
        options["device_map"] = {"": 0}
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    settings = SFTConfig(
        output_dir=str(spec.output_dir),
        max_steps=h.max_steps,
        per_device_train_batch_size=h.batch_size,
        gradient_accumulation_steps=h.gradient_accumulation_steps,
        learning_rate=h.learning_rate,
        lr_scheduler_type=h.lr_scheduler_type,
        optim=h.optim,
        seed=h.seed,
        max_length=None,
        gradient_checkpointing=gpu,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        remove_unused_columns=False,
        use_cpu=not gpu,
        bf16=gpu,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    targets = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    return {
        "model": AutoModelForImageTextToText.from_pretrained(spec.base_model, **options),
        "processing_class": AutoProcessor.from_pretrained(spec.base_model),
        "train_dataset": _rows(Path(spec.dataset_path)),
        "peft_config": LoraConfig(r=lora.r, lora_alpha=lora.lora_alpha, target_modules=targets),
        "args": settings,
    }


def _rows(path: Path) -> Dataset:
    """Prompt, completion and images; a picture is opened when its row is taken."""

    def turns(batch: dict[str, list[str]]) -> dict[str, list[Any]]:
        return {
            "prompt": [[{"role": "user", "content": text}] for text in batch["text"]],
            "completion": [[{"role": "assistant", "content": answer}] for answer in batch["response"]],
            "images": [[Image.open(path.parent / image).convert("RGB")] for image in batch["image"]],
        }

    return Dataset.from_list([json.loads(line) for line in path.read_text().splitlines()]).with_transform(turns)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
