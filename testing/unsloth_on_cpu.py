"""Importing this makes the unsloth backend run on a machine without a GPU, with Unsloth's real classes.

Unsloth has a switch for its own tests that lets it be imported so; the patches that the switch leaves out are put in
place here. bfloat16, Triton kernels, quantization and offloaded checkpointing are not covered so. Some names are
Unsloth's private ones: look here first when its pin moves.
"""

# ruff: noqa: E402, I001  what is set and imported first is what this module is about
from __future__ import annotations

import os
import types

os.environ |= {
    "UNSLOTH_ALLOW_CPU": "1",
    "UNSLOTH_DISABLE_STATISTICS": "1",
    "UNSLOTH_COMPILE_DISABLE": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
}

import unsloth  # noqa: F401
import torch

assert not torch.cuda.is_available(), "on a GPU the backend itself is run"
torch.cuda.get_device_properties = lambda *_, **__: types.SimpleNamespace(
    name="none", total_memory=0, major=0, minor=0, multi_processor_count=0
)
os.environ["UNSLOTH_ALLOW_CPU"] = "0"  # with 1 the patches of TRL would stay out
from unsloth.context_parallel import patch_sft_trainer
from unsloth.models.rl import PatchFastRL
from unsloth.trainer import _patch_trl_trainer

PatchFastRL()
_patch_trl_trainer()
patch_sft_trainer()

from model_garden_trainer.models import backends


def _choose(*_: object, **__: object) -> tuple[str, str]:
    """Unsloth for every spec: none may ask for it without a GPU."""
    return "unsloth", "a test"


backends.choose = _choose
