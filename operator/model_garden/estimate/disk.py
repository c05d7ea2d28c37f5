"""Estimates the disk space that the output of a training job needs, from the spec and the model's config.json.

The command line and the REST API show it before a job exists. The preflight and the trainer compare it with the free
space of ``outputDir`` before they load the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from model_garden.contract.memory_estimate import GIB
from model_garden.contract.spec import EffectiveSpec
from model_garden.estimate.estimate import job_of
from model_garden.estimate.formulas import Job, checkpoint_bytes
from model_garden.estimate.modules import Config
from model_garden.estimate.steps import optimizer_steps

_BITS = {
    "f32": 32.0,
    "f16": 16.0,
    "bf16": 16.0,
    "q8_0": 8.5,
    "q6_k": 6.6,
    "q5_k_m": 5.7,
    "q4_k_m": 4.9,
    "q3_k_m": 4.0,
    "q2_k": 3.2,
}
"""Bits of a weight in a GGUF file, with the layers that have more (github.com/ggml-org/llama.cpp,
tools/quantize/README.md: bits per weight of Llama 3.1 8B)."""
_BITS_4BIT = 5.5
"""Bits of a weight in a merged_4bit model: 4.5 in the quantized layers, 16 in embeddings and output layer."""
_WRITTEN_BY_CONVERTER = ("f32", "f16", "bf16", "q8_0")


@dataclass(frozen=True)
class Space:
    """A part of the output: its name with how it is counted, and its size in bytes."""

    name: str
    size: float

    def __str__(self) -> str:
        return f"{self.name} {self.size / GIB:.1f} GiB"


def output_space(spec: EffectiveSpec, config: Config, *, checkpoints: int | None) -> list[Space]:
    """The most that ``outputDir`` holds at any time, part by part.

    Args:
        spec: the effective spec.
        config: the base model's parsed config.json.
        checkpoints: how many checkpoints the run writes at most; None where that is not known.

    Raises:
        ValueError: a size is missing in the config, or it is of a text model and the spec of a vision model.
    """
    job, _ = job_of(spec, config, None)
    return [_checkpoints(job, checkpoints), _model(job), *_export(spec, job)]


def most_checkpoints(spec: EffectiveSpec, rows: int) -> int:
    """The most checkpoints that a run writes: every ``saveSteps`` steps, and at each evaluation with a better loss.

    Args:
        spec: the effective spec.
        rows: rows to train on; with ``maxSteps``, any number.
    """
    h = spec.hyperparameters
    steps = optimizer_steps(spec, rows)
    return math.ceil(steps / h.save_steps) + (math.ceil(steps / h.eval_steps) if h.eval_steps else 0)


def _checkpoints(job: Job, written: int | None) -> Space:
    """A checkpoint is written before the oldest is removed, and the one with the best evaluation stays."""
    kept = job.h.save_total_limit + 1 + (job.h.eval_steps is not None)
    kept = kept if written is None else min(written, kept)
    return Space(f"{kept} checkpoint{'' if kept == 1 else 's'}", kept * checkpoint_bytes(job))


def _model(job: Job) -> Space:
    if job.full:
        return Space("the model", 2.0 * job.model.parameters)
    return Space("the adapter", 4.0 * job.trained)  # in float32


def _export(spec: EffectiveSpec, job: Job) -> list[Space]:
    """A 4-bit model and a GGUF file are made of a merged model in 16 bit, which a full fine-tuning has already."""
    method, count = spec.save_method, job.model.parameters
    if method == "lora":
        return []
    parts = [] if job.full else [Space("the merged model", 2.0 * count)]
    if method == "merged_4bit":
        parts.append(Space("the 4-bit model", _BITS_4BIT / 8 * count))
    if method == "gguf":
        kind = spec.gguf_quantization or "q4_k_m"
        if kind not in _WRITTEN_BY_CONVERTER:
            parts.append(Space("the GGUF file in bf16 that is quantized", 2.0 * count))
        parts.append(Space(f"the GGUF file in {kind}", _BITS[kind] / 8 * count))
    return parts
