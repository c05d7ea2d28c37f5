"""Counts the optimizer steps of a training job, as ``transformers.Trainer`` does."""

from __future__ import annotations

import math

from model_garden.contract.spec import EffectiveSpec


def rows_per_step(spec: EffectiveSpec) -> int:
    """The rows of an optimizer step: micro-batch x accumulation x processes. With GRPO, a row is an answer."""
    h = spec.hyperparameters
    return h.batch_size * h.gradient_accumulation_steps * max(spec.gpus, 1) * spec.num_nodes


def optimizer_steps(spec: EffectiveSpec, rows: int) -> int:
    """The steps of a job that trains on ``rows`` rows of the data set; packing makes them fewer."""
    h = spec.hyperparameters
    if h.max_steps > 0:
        return h.max_steps
    trained = rows * spec.grpo.num_generations if spec.grpo else rows
    return math.ceil(h.num_epochs * math.ceil(trained / rows_per_step(spec)))
