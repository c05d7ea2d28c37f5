"""Attention of a vision tower in one call for all its images and windows, with PyTorch's variable-length kernel.

With ``sdpa``, transformers calls attention once for each image and, in most blocks, once for each window of it: 928
calls for 8 images of 224 x 224 in Qwen2.5-VL's tower, each preceded by a wait for the GPU. An implementation with
"flash" in its name gets all of them at once, with the lengths (transformers/models/qwen2_5_vl/modeling_qwen2_5_vl.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import AttentionInterface

from model_garden.families import VISION_MODULES
from model_garden_trainer.batches.vision_inputs import unwrapped
from model_garden_trainer.events import log

NAME = "varlen_flash"
TOLERANCE = 0.02
"""Largest distance between a tower's outputs with both kernels, as a share of their norm: bfloat16 has 8 bits."""
_GRIDS = ((1, 12, 20), (1, 8, 8))
"""Two small images of different shape, in patches: time, height, width."""

Kernel = Callable[..., torch.Tensor]
"""``torch.nn.attention.varlen.varlen_attn`` (torch 2.11 and later)."""


def use_varlen(model: Any) -> None:
    """Let the vision tower of ``model`` use the variable-length kernel, if its outputs are those of ``sdpa``.

    It does nothing without a GPU. If the kernel is missing, raises or computes something else, the tower keeps its
    attention, and the log says why.

    Args:
        model: a model of transformers, adapted or not.
    """
    if not torch.cuda.is_available():
        return
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        log("this version of PyTorch has no variable-length attention; the vision tower uses sdpa")
        return
    switch(model, varlen_attn)


def switch(model: Any, kernel: Kernel) -> bool:
    """Switch the vision tower of ``model`` to ``kernel``, and back if it fails; whether it uses the kernel now.

    Only towers with the attention of Qwen's are switched: they are called with the lengths of images and windows.
    """
    base = unwrapped(model)
    tower = next((module for name, module in base.named_modules() if name.rpartition(".")[2] in VISION_MODULES), None)
    if tower is None or not hasattr(tower, "spatial_merge_size"):
        return False
    if tower.config._attn_implementation != "sdpa":
        log(f"the vision tower uses {tower.config._attn_implementation}")
        return False
    calls: list[None] = []

    def counted(*args: Any, **options: Any) -> torch.Tensor:
        calls.append(None)
        return kernel(*args, **options)

    try:
        before = _output(tower)
        AttentionInterface.register(NAME, _implementation(counted))
        tower.config._attn_implementation = NAME
        distance = float((_output(tower) - before).norm() / before.norm())
        problem = None if distance <= TOLERANCE else f"its outputs differ by {distance:.1%}"
        problem = problem if calls else "it does not call the kernel"
        AttentionInterface.register(NAME, _implementation(kernel))
    except Exception as error:
        problem = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if problem is None:
        log("the vision tower uses variable-length attention")
        return True
    tower.config._attn_implementation = "sdpa"
    log(f"the vision tower does not use variable-length attention, but sdpa: {problem}")
    return False


def _implementation(kernel: Kernel) -> Callable[..., tuple[torch.Tensor, None]]:
    """``kernel`` as transformers calls attention: (1, heads, tokens, width) in, (1, tokens, heads, width) out."""

    def attend(
        _module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        scaling: float,
        cu_seq_lens_q: torch.Tensor,
        cu_seq_lens_k: torch.Tensor,
        max_length_q: int,
        max_length_k: int,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        dtype = torch.bfloat16 if query.is_cuda else query.dtype  # the kernel takes no float32
        q, k, v = (part.transpose(1, 2)[0].to(dtype) for part in (query, key, value))
        output = kernel(q, k, v, cu_seq_lens_q, cu_seq_lens_k, max_length_q, max_length_k, scale=scaling)
        return output.to(query.dtype).unsqueeze(0), None

    return attend


def _output(tower: Any) -> torch.Tensor:
    """What the tower makes of two images of random pixels, the same in each call; float32."""
    config, parameter = tower.config, next(tower.parameters())
    values = config.in_channels * config.temporal_patch_size * config.patch_size**2
    grids = torch.tensor(_GRIDS)
    pixels = torch.rand(int(grids.prod(dim=1).sum()), values, generator=torch.Generator().manual_seed(0))
    training = tower.training
    tower.eval()
    try:
        autocast = torch.autocast(parameter.device.type, torch.bfloat16, enabled=parameter.is_cuda)
        with torch.no_grad(), autocast, torch.compiler.set_stance("force_eager"):
            made = tower(pixels.to(parameter.device, tower.dtype), grid_thw=grids.to(parameter.device))
    finally:
        tower.train(training)
    pooled: torch.Tensor = made.pooler_output
    return pooled.float()
