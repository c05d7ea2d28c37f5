"""Measurements beside a run: memory, a recorded step, the vision tower alone."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

GIB = 2**30
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
REPEATS = 10


def take_peak() -> dict[str, float]:
    """GiB at most since the last call: reserved and allocated of the GPU; without one, resident memory until now."""
    import resource

    if not torch.cuda.is_available():
        unit = 1 if sys.platform == "darwin" else 1024
        return {"resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB}
    peak = {
        "reserved": torch.cuda.max_memory_reserved() / GIB,
        "allocated": torch.cuda.max_memory_allocated() / GIB,
    }
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return peak


class Recording:
    """torch's profiler around one step: from its construction until ``stop``."""

    def __init__(self) -> None:
        kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
        self._profiler = profile(activities=kinds)
        self._profiler.start()
        self._began = time.perf_counter()

    def stop(self, file: Path) -> dict[str, Any]:
        """Write the trace to ``file`` and count what the step did."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = time.perf_counter() - self._began
        self._profiler.stop()
        self._profiler.export_chrome_trace(str(file))
        counts: Counter[str] = Counter()
        busy = 0.0
        for event in self._profiler.key_averages():
            counts[event.key] += event.count
            busy += event.self_device_time_total / 1e6
        return {
            "seconds": seconds,
            "gpuSeconds": busy,
            "kernels": sum(counts[name] for name in ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel")),
            "copies": counts["cudaMemcpyAsync"],
            "waits": {name: counts[name] for name in WAITS},
            "items": counts["aten::item"],
            "nonzero": counts["aten::nonzero"],
        }


def measure(spec: Any) -> dict[str, Any]:
    """The vision tower and its patch embedding alone, on the pictures of one step: seconds, and the attention in use.

    The time of the patch embedding is worth a look because a convolution in bfloat16 is slow with some versions of
    PyTorch and cuDNN (pytorch issues 174051 and 166643).
    """
    from model_garden_trainer.batches.splits import open_data
    from model_garden_trainer.models import auto_classes, backends

    folder = Path(spec.base_model)
    encoder = auto_classes.collator(spec, folder)
    batch = encoder(list(islice(open_data(spec, 0).training, 8)))
    name = backends.choose(spec, gpu=torch.cuda.is_available())[0]
    model = backends.load(name).load_model(spec, folder)
    tower = next(module for path, module in model.named_modules() if path.rpartition(".")[2] == "visual")
    weight = tower.patch_embed.proj.weight
    pixels = batch["pixel_values"].to(weight.device, weight.dtype)
    grid = batch["image_grid_thw"].to(weight.device)
    with torch.no_grad():
        seconds = {
            "patchEmbedding": _seconds(lambda: tower.patch_embed(pixels)),
            "tower": _seconds(lambda: tower(pixels, grid_thw=grid)),
        }
    return {
        "seconds": seconds,
        "patches": len(pixels),
        "attention": {
            "text": model.config.get_text_config()._attn_implementation,
            "vision": tower.config._attn_implementation,
        },
        "tokens": int(batch["attention_mask"].sum()),
        "imageTokens": int((batch["input_ids"] == model.config.image_token_id).sum()),
        "trainedTokens": int((batch["labels"] != -100).sum()),
    }


def _seconds(run: Callable[[], Any]) -> float:
    """Of one call, the mean of several after the first two."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    for _ in range(2):
        run()
    wait()
    began = time.perf_counter()
    for _ in range(REPEATS):
        run()
    wait()
    return (time.perf_counter() - began) / REPEATS
