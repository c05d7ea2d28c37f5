"""LoftQ (arXiv 2310.08659): adapters that start from what 4-bit rounding took from the weights.

With W a weight in 16 bit and Q its 4-bit form, A0 and B0 are the best approximation of W - Q by the adapter's rank, so
that training starts near W rather than at Q. It is the paper's method with one iteration, as in peft's
``replace_lora_weights_loftq``; that one knows no alpha other than the rank, and reads weights by their names on disk,
which those in memory may not have.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.utils.integrations import dequantize_module_weight
from torch.nn.functional import pad

from model_garden_trainer.models.quantized import LAYERS


def start(adapted: Any, original: Any) -> None:
    """Set the first weights of the adapters that are on 4-bit layers.

    Args:
        adapted: the model in 4 bit with fresh adapters.
        original: the same base model, not quantized.
    """
    for name, layer in adapted.get_base_model().named_modules():
        if not hasattr(layer, "lora_A") or type(layer.get_base_layer()).__name__ != LAYERS["4bit"]:
            continue
        rounded = dequantize_module_weight(layer.get_base_layer()).detach().float()
        lost = original.get_submodule(name).weight.detach().to(rounded.device, torch.float32) - rounded
        for adapter, scale in layer.scaling.items():
            down, up = halves(lost / scale, layer.r[adapter])
            layer.lora_A[adapter].weight.data.copy_(down)
            layer.lora_B[adapter].weight.data.copy_(up)


def halves(weight: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A (rank x in) and B (out x rank) whose product B A is nearest to ``weight`` (out x in).

    Where the rank is larger than a side of the weight, the other rows of A and columns of B are 0 and stay so: without
    them the product can be any weight already.
    """
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    root = values[:rank].sqrt()
    spare = rank - len(root)
    return pad(root[:, None] * right[:rank], (0, 0, 0, spare)), pad(left[:, :rank] * root, (0, spare))
