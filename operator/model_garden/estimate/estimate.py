"""Estimates the memory of a training job from its effective spec and the model's config.json.

The operator compares the estimate of the preflight with the cluster's GPUs before it requests one. The command line,
the API and the web form show it part by part, and after a run the measured peak beside it. ``model_shape.py`` counts
weights, ``image_tokens.py`` counts image tokens, ``formulas.py`` has the formulas and their sources, and ``gpus.py``
reads the GPUs of nodes. docs/memory-estimate.md describes the accuracy.
"""

from __future__ import annotations

import math

from model_garden.contract.hyperparameters import EffectiveHyperparameters
from model_garden.contract.memory_estimate import GIB, Estimate, RowShape
from model_garden.contract.spec import EffectiveSpec
from model_garden.estimate.formulas import Job, activation_parts, adapter_parts, checkpoint_bytes, part, weight_parts
from model_garden.estimate.image_tokens import most_picture_tokens
from model_garden.estimate.model_shape import read_model
from model_garden.estimate.modules import Config, VisionShape

GPU_SIZES = (16, 24, 40, 48, 80, 96, 141, 192)
"""Sizes of common GPUs in GB, as vendors name them."""
USABLE_GIB_PER_GB = 0.92
"""GiB that a process can use of each such GB: a T4 of 16 GB has 14.75 GiB, and an H100 of 80 GB has 79."""

CONTEXT_GIB = 0.6
"""CUDA context, cuBLAS and kernel images of a process, which PyTorch does not count."""
_SEQUENCES = {"sft": 1, "dpo": 2, "kto": 2, "orpo": 2, "grpo": 1}
"""Sequences that a model reads of one row: of preferences, one with each answer; KTO adds one with another row's."""
_WITH_REFERENCE = ("dpo", "kto")
"""Methods in which the base model computes logits too."""
LIBRARIES_GIB = 0.7
"""Resident memory of Python with torch, transformers and peft imported, without CUDA; measured."""
FRAGMENTATION_GPU, FRAGMENTATION_HOST = 0.1, 0.6
"""Memory that allocators hold but that is not in use, as a share of all but the weights: PyTorch's caching allocator on
a GPU; on a CPU the heap of the C library, which frees only large blocks (measured on a tiny model: 0.6)."""


def estimate(spec: EffectiveSpec, config: Config, *, rows: RowShape | None = None) -> Estimate:
    """The peak memory of one training process. With several GPUs, each needs as much.

    Args:
        spec: the effective spec.
        config: the base model's parsed config.json.
        rows: the measured largest row; None assumes rows of ``maxSeqLength`` tokens with one image of ``maxPixels``.

    Raises:
        ValueError: a size is missing in the config, or it is of a text model and the spec of a vision model.
    """
    job, assumptions = job_of(spec, config, rows)
    weights = weight_parts(job)
    loose = adapter_parts(job) + activation_parts(job)
    share = FRAGMENTATION_GPU if job.gpu else FRAGMENTATION_HOST
    lost = share * sum(each.size_gib for each in loose) * GIB
    detail = f"{share:.0%} of all but the weights: held by the allocator, not in use"
    parts = [*weights, *loose, part("fragmentation", lost, detail, least=0.0, most=2.0)]
    inside = sum(each.size_gib for each in parts)
    parts.append(
        part("CUDA context", CONTEXT_GIB * GIB, "driver, cuBLAS, kernels", least=0.5, most=1.5)
        if job.gpu
        else part("libraries", LIBRARIES_GIB * GIB, "Python, torch, transformers, peft", least=0.7, most=1.5)
    )
    total = sum(each.size_gib for each in parts)
    return Estimate(
        memory="GPU" if job.gpu else "Host",
        parts=parts,
        total_gib=total,
        min_gib=sum(each.min_gib for each in parts),
        max_gib=sum(each.max_gib for each in parts),
        reserved_gib=inside,
        smallest_gpu=next((size for size in GPU_SIZES if total <= USABLE_GIB_PER_GB * size), None) if job.gpu else None,
        parameters=job.model.parameters,
        trained_parameters=job.trained,
        batch_size=job.batch,
        tokens_per_row=job.row.tokens,
        image_tokens_per_row=job.row.image_tokens,
        assumptions=assumptions,
    )


def fits(estimate: Estimate, gpu_gib: float) -> bool:
    """Whether the job should run on a GPU with ``gpu_gib`` GiB, by the expected peak."""
    return estimate.total_gib <= gpu_gib


def cannot_fit(estimate: Estimate, gpu_gib: float) -> bool:
    """Whether the job cannot run on a GPU with ``gpu_gib`` GiB, since the smallest possible peak is above it."""
    return estimate.min_gib > gpu_gib


def gpu_sizes(estimate: Estimate) -> tuple[list[int], list[int], list[int]]:
    """The sizes of common GPUs in GB that are enough, that may be enough, and that are too small."""
    usable = {size: USABLE_GIB_PER_GB * size for size in GPU_SIZES}
    enough = [size for size, gib in usable.items() if fits(estimate, gib)]
    small = [size for size, gib in usable.items() if cannot_fit(estimate, gib)]
    return enough, [size for size in GPU_SIZES if size not in enough + small], small


def explain(estimate: Estimate) -> list[str]:
    """The estimate as lines of text: the total, each part, and the assumptions."""
    gpu = ""
    if estimate.memory == "GPU":
        smallest = estimate.smallest_gpu
        gpu = f"; fits a GPU of {smallest} GB" if smallest else f"; too much for a GPU of {GPU_SIZES[-1]} GB"
    bounds = f"between {estimate.min_gib:.1f} and {estimate.max_gib:.1f}"
    return [
        f"{estimate.memory} memory {estimate.total_gib:.1f} GiB, {bounds}{gpu}",
        *(f"{each.name} {each.size_gib:.2f} GiB ({each.detail})" for each in estimate.parts),
        *(f"assumed: {assumption}" for assumption in estimate.assumptions),
    ]


def job_of(spec: EffectiveSpec, config: Config, rows: RowShape | None) -> tuple[Job, list[str]]:
    """The input of the formulas, and what was assumed. Arguments and errors are those of ``estimate``."""
    h, lora = spec.hyperparameters, spec.lora_config
    model = read_model(config)
    if spec.vision and model.vision is None:
        raise ValueError("config.json: has no vision_config, so the model reads no images; set isVision: false")
    row = rows or _longest_row(model.vision if spec.vision else None, h.max_seq_length, spec.pixel_bounds[1])
    if spec.grpo:  # an answer is written besides, whatever the row has
        row = row.model_copy(update={"tokens": row.tokens + spec.grpo.max_completion_length})
    row, batch = _packed(row, h) if h.packing else (row, h.batch_size * _SEQUENCES[spec.method])
    job = Job(
        h=h,
        lora=lora,
        model=model,
        config=config,
        quantization=spec.quantization,
        backend="unsloth" if spec.backend == "unsloth" else "transformers",
        gpu=spec.gpus > 0,
        processes=spec.gpus * spec.num_nodes,
        batch=batch,
        row=row,
        reference=spec.method in _WITH_REFERENCE or bool(spec.grpo and spec.grpo.beta),
        full=spec.adapter == "none",
    )
    return job, [*model.approximations, *_assumptions(job, measured=rows is not None)]


def _longest_row(vision: VisionShape | None, longest: int, max_pixels: int | None) -> RowShape:
    if vision is None or max_pixels is None:
        return RowShape(tokens=longest)
    tokens = most_picture_tokens(vision, max_pixels)
    return RowShape(tokens=max(longest, tokens + 1), image_tokens=tokens)


def _packed(row: RowShape, h: EffectiveHyperparameters) -> tuple[RowShape, int]:
    """A packed row with as many samples of the size of ``row`` as ``maxSeqLength`` and an optimizer step allow, filled
    up with shorter samples if the step has more; and the number of such rows in a micro-batch."""
    longest = max(h.max_seq_length, row.tokens)
    samples = (h.batch_size) * (h.gradient_accumulation_steps)
    rows = min(longest // row.tokens, samples)
    tokens = min(longest, samples * row.tokens)
    trained = row.trained_tokens and math.ceil(row.trained_tokens * tokens / row.tokens)
    packed = RowShape(tokens=tokens, image_tokens=rows * row.image_tokens, trained_tokens=trained)
    return packed, min(h.batch_size, math.ceil(samples / rows))


def _assumptions(job: Job, *, measured: bool) -> list[str]:
    pictures = f", {job.row.image_tokens} of them image tokens" if job.row.image_tokens else ""
    rows = "each like the longest row" if measured else "since no data was measured"
    lines = [f"batch {job.batch} x {job.row.tokens} tokens{pictures}, {rows}"]
    if job.row.trained_tokens is None:
        lines.append("all tokens are trained on")
    if job.h.auto_batch_size:
        smaller = "uses a smaller batch if this one does not fit, and " if job.batch > 1 else ""
        lines.append(f"autoBatchSize {smaller}fills the free memory: a measured peak may be higher")
    if job.full:
        size, count = checkpoint_bytes(job) / GIB, job.h.save_total_limit
        lines.append(f"a checkpoint takes {size:.1f} GiB in outputDir, and saveTotalLimit keeps {count}")
    if job.processes > 1:
        lines.append("every GPU holds the whole model")
    return lines
