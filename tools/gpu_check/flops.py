"""How much arithmetic a LoRA step is worth, and what share of a GPU's peak that was: model FLOPs utilisation.

A weight W costs a token 2 operations forward (a multiplication and an addition), 2 backward for the gradient of its
input and 2 for its own gradient: the usual 6 N a token (Kaplan et al. 2020, arXiv 2001.08361, section 2.1). LoRA
freezes W, which saves its own gradient, and adds adapters, which are trained whole. So a step is worth

    tokens x (4 N + 6 A)    N: language model's attention and MLP weights, A: adapters
    + trained x 4 V h       the head, only where a token carries loss: V vocabulary, h hidden size, frozen
    + patches x 2 T         T: vision tower's attention and MLP weights; frozen with nothing trained before it, so that
                            no gradient needs to pass
    + pictured x 2 C        C: the connector's weights, for each token that stands for a part of a picture

As usual for this figure (PaLM, arXiv 2204.02311, appendix B), what is computed again for gradient checkpointing does
not count, nor padding, nor logits that carry no loss. Attention's own products are left out: 6 l a per token and layer
(l length of the row, a heads x head size, half of it masked), less than 1% of 4 N for rows of a hundred tokens.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from model_garden.estimate.modules import Model, Role, Side

PEAK_TFLOPS: dict[str, float] = {
    r"H100 PCIe": 756,
    r"H100 NVL|H200 NVL": 835,
    r"H100|H200|GH200": 989,
    r"B200": 2250,
    r"A100": 312,
    r"L40S": 362,
    r"L40\b": 181,
    r"L4\b": 121,
}
"""Dense bfloat16 tensor cores, TFLOP/s, by the name that the driver gives the card; the first that matches. Source:
NVIDIA's data sheets of each card, whose "with sparsity" is twice as much."""


@dataclass(frozen=True)
class Work:
    """What a step works on: tokens in all, those that carry loss, those that stand for pictures, and patches."""

    tokens: int
    trained: int
    pictured: int
    patches: int


def step_flops(model: Model, adapters: int, work: Work) -> float:
    """Operations that a step of LoRA on the language model is worth (formula above); ``adapters`` are trained weights.

    Qwen2.5-VL-3B, rank 16, 8 samples of 100 tokens and a picture of 224 x 224: 1.2e13.
    """
    projections: tuple[Role, ...] = ("attention", "mlp")
    language = _weights(model, "language", projections)
    tower = _weights(model, "vision", projections)
    connector = _weights(model, "vision", ["connector"])
    head = model.text.vocabulary * model.text.hidden
    return (
        work.tokens * (4.0 * language + 6.0 * adapters)
        + work.trained * 4.0 * head
        + work.patches * 2.0 * tower
        + work.pictured * 2.0 * connector
    )


def peak_flops(gpu: str) -> float | None:
    """Operations a second that ``gpu`` can do at most in bfloat16; None for a card that the table lacks."""
    return next((1e12 * peak for name, peak in PEAK_TFLOPS.items() if re.search(name, gpu)), None)


def _weights(model: Model, side: Side, roles: Collection[Role]) -> int:
    return sum(m.outputs * m.inputs for m in model.modules if m.side == side and m.role in roles)
