"""Formulas for the parts of a training process's memory, each with its source.

The peak of a step is the sum of three: the memory that is always in use (weights, adapters, gradients, optimizer), the
activations that the forward pass keeps for the backward pass, and the largest of three that are never in use together
(one layer recomputed and differentiated, the work of the vision tower, and the loss). The coefficients of ``Work`` are
bytes per token of live tensors, measured by replaying a step of the pinned transformers and peft;
tests/estimate/test_memory_replay.py repeats that for some shapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from model_garden.contract.hyperparameters import EffectiveHyperparameters
from model_garden.contract.memory_estimate import GIB, Part, RowShape
from model_garden.contract.options import EffectiveLoraConfig
from model_garden.estimate.image_tokens import patches
from model_garden.estimate.modules import Config, Model, Module, TextShape

Backend = Literal["unsloth", "transformers"]

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a 4-bit weight: half a byte, an 8-bit scale per 64 weights, a float32 per 256 scales (double quantization).
Source: QLoRA, arXiv 2305.14314, section 3; block sizes of bitsandbytes."""

_STATE_8BIT = 1 + 4 / 256
OPTIMIZER_BYTES = {
    "adamw_torch": 8.0,
    "adamw_torch_fused": 8.0,
    "adamw_8bit": 2 * _STATE_8BIT,
    "paged_adamw_8bit": 2 * _STATE_8BIT,
    "lion_32bit": 4.0,
    "lion_8bit": _STATE_8BIT,
    "sgd": 0.0,
}
"""Bytes of optimizer state per trained parameter: two moments for Adam, one for Lion, none for plain SGD, each in
float32 or as a byte with a share of its block's scale. Adafactor keeps a row and a column of each matrix (arXiv
1804.04235)."""


class Work(NamedTuple):
    """Bytes per token and unit of each width of a decoder layer."""

    hidden: float
    attention: float
    key_value: float
    intermediate: float

    def per_token(self, shape: TextShape) -> float:
        """Bytes per token in a layer of ``shape``."""
        widths = (shape.hidden, shape.attention, shape.key_value, shape.intermediate)
        return sum(bytes_ * width for bytes_, width in zip(self, widths, strict=True))


RECOMPUTED_LAYER = Work(10, 2, 0, 12)
"""One decoder layer recomputed and differentiated under autocast, with bfloat16 weights and float32 adapters; its peak
is in the MLP. Unsloth's fused kernels need less."""
KEPT_LAYER = Work(16, 8, 8, 16)
"""The activations that one decoder layer keeps for the backward pass if nothing is recomputed, in float32 on a CPU."""
DORA_KEPT, DORA_NORM = 8, 10
"""Bytes that DoRA keeps for each output of an adapted layer and token, and those for each number of the largest
adapted weight while its norm is computed."""
VISION_FORWARD, VISION_RECOMPUTED, VISION_TRAINED = (28, 6), (34, 12), (45, 16)
"""Bytes of a vision block per patch and unit of its hidden and its intermediate width: in a frozen tower, which runs
forward only; with adapters, recomputed on a GPU; and with adapters, kept in float32 on a CPU."""
LOGIT_BYTES_GPU, LOGIT_BYTES_CPU = 16, 12
"""Bytes of a logit: bfloat16, its float32 copy, the log-softmax for the backward pass, and gradients; on a CPU all are
float32."""
FUSED_LOSS_GIB = (0.25, 1.0, 4.0)
"""Unsloth computes the loss in chunks of half the free memory, at most 4 GiB: minimum, usual size and maximum."""
OFFLOADED_ABOVE = 2 * 2**20
"""Unsloth moves checkpoints above this many bytes to host memory (``MINIMUM_SIZE`` of unsloth_zoo)."""
AROUND_LAYERS = 6
"""Embedding, last hidden state and their gradients, in hidden states of 2 bytes."""


@dataclass(frozen=True)
class Job:
    """The input of the formulas, from spec, config and rows. Each of ``processes`` holds a whole model."""

    h: EffectiveHyperparameters
    lora: EffectiveLoraConfig
    model: Model
    config: Config
    quantization: str
    backend: Backend
    gpu: bool
    processes: int
    batch: int
    row: RowShape
    full: bool = False
    reference: bool = False
    """Whether the base model computes logits of the same batch besides, without a backward pass."""

    @property
    def adapted(self) -> list[Module]:
        """The layers that get an adapter."""
        return [] if self.full else adapted_modules(self.model.modules, self.lora)

    @property
    def whole(self) -> list[Module]:
        """The modules that are trained whole: those that ``modulesToSave`` names, or without adapters all of the
        chosen sides."""
        if self.full:
            sides = {"language": self.lora.finetune_language_layers, "vision": self.lora.finetune_vision_layers}
            return [module for module in self.model.modules if sides[module.side]]
        return whole_modules(self.model, self.lora)

    @property
    def trained(self) -> int:
        """The number of trained parameters."""
        return adapter_parameters(self) + sum(module.parameters for module in self.whole)

    @property
    def tokens(self) -> int:
        """Tokens of a batch."""
        return self.batch * self.row.tokens

    @property
    def patches(self) -> int:
        """Image patches of a batch."""
        vision = self.model.vision
        return self.batch * patches(vision, self.row.image_tokens) if vision else 0

    @property
    def least(self) -> float:
        """The smallest batch that ``autoBatchSize`` may use, as a share of the batch."""
        return 1 / self.batch if self.h.auto_batch_size else 1.0


def part(name: str, count: float, detail: str, *, least: float = 1.0, most: float = 1.0) -> Part:
    """A part of ``count`` bytes; its bounds are ``least`` and ``most`` times as much."""
    size = count / GIB
    return Part(name=name, size_gib=size, min_gib=least * size, max_gib=most * size, detail=detail)


def adapted_modules(modules: Iterable[Module], lora: EffectiveLoraConfig) -> list[Module]:
    """The layers that get an adapter: attention and MLP projections of the chosen sides, or those that
    ``targetModules`` names, matched as in peft (the whole name, or its end after a dot)."""
    sides = {"language": lora.finetune_language_layers is not False, "vision": bool(lora.finetune_vision_layers)}
    roles = {
        "attention": lora.finetune_attention_modules is not False,
        "mlp": lora.finetune_mlp_modules is not False,
    }

    modules = list(modules)
    mixture = any(module.name.endswith(".experts") for module in modules)  # of which attention alone is adapted

    def wanted(module: Module) -> bool:
        if lora.target_modules:
            named = any(f".{module.name}".endswith(f".{target}") for target in lora.target_modules)
            return named and module.role not in ("embedding", "other")
        return roles.get(module.role, False) and not (mixture and module.role == "mlp" and module.side == "language")

    return [module for module in modules if sides[module.side] and wanted(module)]


def lora_parameters(adapted: Iterable[Module], rank: int) -> int:
    """Parameters of adapters of ``rank``: A is rank x inputs, B is outputs x rank (arXiv 2106.09685)."""
    return sum(rank * (module.inputs + module.outputs) for module in adapted)


def adapter_parameters(job: Job) -> int:
    """Parameters of the adapters; DoRA adds a magnitude for each output (arXiv 2402.09353)."""
    magnitudes = sum(module.outputs for module in job.adapted) if job.lora.use_dora else 0
    return lora_parameters(job.adapted, job.lora.r or 0) + magnitudes


def whole_modules(model: Model, lora: EffectiveLoraConfig) -> list[Module]:
    """The modules that ``modulesToSave`` names, or that are inside of those that it names.

    A tied output layer is trained as a matrix of its own, unless the embeddings are named too.
    """
    names = lora.modules_to_save or []
    found = [m for m in model.modules if any(f".{name}." in f".{m.name}." for name in names)]
    last = {name.rpartition(".")[2] for name in names}
    if "lm_head" in last and "embed_tokens" not in last and all(m.role != "head" for m in model.modules):
        found.append(Module("lm_head", model.text.vocabulary, model.text.hidden, "language", "head"))
    return found


def quantized(module: Module, skipped: list[str] | None = None) -> bool:
    """Whether bitsandbytes quantizes ``module``.

    Both backends keep the head, the vision tower and the connector in 16 bits (``SKIP_QUANTIZATION_MODULES`` of
    unsloth_zoo, ``quantized.KEPT`` of the trainer). A quantized checkpoint has its own list, which is matched without
    the names of the wrappers around the model.
    """
    if module.role not in ("attention", "mlp", "connector"):
        return False
    if skipped is None:
        return module.side == "language" and module.role != "connector"
    return not any(f".{_bare(skip)}." in f".{_bare(module.name)}." for skip in skipped)


def _bare(name: str) -> str:
    return re.sub(r"\b(?:model|language_model)\.", "", name)


def weight_parts(job: Job) -> list[Part]:
    """The weights of the base model, and its largest quantized layer, which is unpacked to 16 bits while it is used."""
    given: dict[str, Any] = dict(job.config.get("quantization_config") or {})
    kind = "4bit" if given.get("load_in_4bit") else "8bit" if given.get("load_in_8bit") else job.quantization
    skipped = (given.get("llm_int8_skip_modules") or []) if given else None
    small = [m for m in job.model.modules if kind in ("4bit", "8bit") and quantized(m, skipped)]
    inside = sum(m.outputs * m.inputs for m in small)
    packed = inside * NF4_BYTES if kind == "4bit" else inside + 4 * sum(m.outputs for m in small)
    rest = job.model.parameters - inside
    width = _width(job, kind)
    count = f"{job.model.parameters / 1e9:.2f} B parameters"
    if not small:
        detail = f"{count} of {width} bytes"
    else:
        kept = _kept_names([m for m in job.model.modules if m not in set(small)])
        detail = f"{count}, {kind.removesuffix('bit')}-bit; {kept} in {8 * width} bit, {rest / 1e9:.2f} B"
    parts = [part("weights", packed + rest * width, detail, **_weight_bounds(job))]
    if small:
        largest = max(small, key=lambda m: m.outputs * m.inputs)
        shape = f"{'.'.join(largest.name.split('.')[-2:])}, {largest.outputs} x {largest.inputs}"
        detail = f"the largest quantized layer ({shape}) unpacked to 16 bit"
        parts.append(part("dequantization", 2 * largest.outputs * largest.inputs, detail))
    return parts


def _width(job: Job, kind: str) -> int:
    """Bytes of a weight that is not quantized."""
    if job.full:  # an update may be smaller than the distance of two 16-bit numbers
        return 2 if kind == "16bit" else 4
    return 2 if job.gpu or kind == "16bit" else 4


def _weight_bounds(job: Job) -> dict[str, float]:
    if not job.gpu:  # the mapped file is resident memory while it is read
        return {"least": 1.0, "most": 2.0}
    return {"least": 0.85, "most": 1.15} if job.model.approximations else {"least": 0.98, "most": 1.02}


def _kept_names(modules: list[Module]) -> str:
    names = ["embeddings"]
    if any(m.role == "head" for m in modules):
        names.append("lm_head")
    if any(m.side == "vision" and m.role == "mlp" for m in modules):
        names.append("vision tower")
    return ", ".join(names) + " and norms"


def adapter_parts(job: Job) -> list[Part]:
    """Trained weights and gradients, which are float32 in both backends, and optimizer state."""
    if job.full:
        return _full_parts(job)
    adapted, whole, rank, trained = job.adapted, job.whole, job.lora.r or 0, job.trained
    kind, inside = "DoRA" if job.lora.use_dora else "LoRA", adapter_parameters(job)
    detail = f"{inside / 1e6:.2f} M of rank {rank} on {len(adapted)} layers, float32"
    parts = [part(f"{kind} weights", 4 * inside, detail)]
    if whole:
        names = ", ".join(job.lora.modules_to_save or ())
        parts.append(part("whole modules", 4 * (trained - inside), f"{names}: a trained copy in float32"))
    parts.append(part(f"{kind} gradients", 4 * trained, f"{trained / 1e6:.2f} M, float32"))
    parts.append(_optimizer(job))
    if job.processes > 1:
        parts.append(part("gradient buckets", 4 * trained, f"{job.processes} processes exchange gradients"))
    return parts


def _full_parts(job: Job) -> list[Part]:
    """Gradients and optimizer state of all trained weights, in the dtype of the weights.

    On a GPU autocast keeps a 16-bit copy of each float32 weight during the forward pass (PyTorch, ``cache_enabled``).
    """
    width, trained = _width(job, job.quantization), job.trained
    parts = [part("gradients", width * trained, f"{trained / 1e9:.3g} B of {width} bytes"), _optimizer(job)]
    if job.gpu and width == 4:
        parts.append(part("16-bit copies", 2 * job.model.parameters, "of the weights, for the computation", least=0.5))
    if job.processes > 1:
        parts.append(part("gradient buckets", width * trained, f"{job.processes} processes exchange gradients"))
    return parts


def checkpoint_bytes(job: Job) -> float:
    """The size of a checkpoint: trained weights, which peft saves in float32 if they are of adapters, and optimizer
    state."""
    width = _width(job, job.quantization) if job.full else 4
    return width * job.trained + _optimizer(job).size_gib * GIB


def _optimizer(job: Job) -> Part:
    optim, rank = job.h.optim or "", job.lora.r or 0
    if optim == "adafactor":
        state = sum(4.0 * (2 * rank + m.inputs + m.outputs) for m in job.adapted)
        state += sum(4.0 * (m.inputs + m.outputs) for m in job.whole)
        return part("optimizer", state, "adafactor keeps a row and a column of each matrix")
    detail = f"{optim}, {OPTIMIZER_BYTES[optim]:.3g} bytes per trained parameter"
    state = job.trained * OPTIMIZER_BYTES[optim]
    return part("optimizer", state, detail, least=0.0 if optim.startswith("paged") else 1.0)


def activation_parts(job: Job) -> list[Part]:
    """The activations that the forward pass keeps, the images, and the largest working memory."""
    shape = job.model.text
    parts = [_kept_text(job)]
    if job.model.vision and job.patches:
        vision, count = job.model.vision, job.patches
        parts.append(
            part("images", 6 * count * vision.patch_values, f"{count} patches as float32 and 16 bit", least=job.least)
        )
        kept = _kept_vision(job)
        if kept:
            detail = f"{count} patches in {vision.layers} blocks, kept for the backward pass"
            parts.append(part("vision activations", kept, detail, least=0.0, most=1.2))
    layer = job.tokens * (RECOMPUTED_LAYER.per_token(shape) if job.gpu else 8 * shape.intermediate)
    if job.gpu:
        layer += max(_dora_kept(job) / shape.layers, _dora_norm(job))
    loss, bounds = _loss(job)
    pieces = {"one layer": layer, "vision tower": _vision_work(job), "loss": loss}
    largest = max(pieces, key=lambda name: pieces[name])
    listed = ", ".join(f"{name} {size / GIB:.2f}" for name, size in pieces.items() if size)
    least, most = bounds if largest == "loss" else (0.5, 1.5)
    detail = f"the largest of these, which are never in use together: {listed}"
    parts.append(part("working memory", pieces[largest], detail, least=least * job.least, most=most))
    return parts


def _kept_text(job: Job) -> Part:
    shape, state = job.model.text, 2 * job.model.text.hidden * job.tokens
    if not job.gpu:
        count = job.tokens * KEPT_LAYER.per_token(shape) * shape.layers + _dora_kept(job)
        detail = f"all activations of {shape.layers} layers for {job.tokens} tokens; nothing is recomputed on a CPU"
        return part("activations", count, detail, least=0.7 * job.least, most=1.4)
    layers = shape.layers
    detail = f"one hidden state of {job.tokens} tokens x {shape.hidden} for each of {layers} layers"
    if job.backend == "unsloth" and state > OFFLOADED_ABOVE:
        layers, detail = 2, f"hidden states of {job.tokens} tokens x {shape.hidden}; Unsloth keeps them in host memory"
    most = (shape.layers + AROUND_LAYERS) / (layers + AROUND_LAYERS)
    return part("activations", state * (layers + AROUND_LAYERS), detail, least=0.6 * job.least, most=1.1 * most)


def _dora_kept(job: Job) -> float:
    """The outputs of base layer and adapter, which DoRA keeps to differentiate the magnitudes."""
    outputs = sum(m.outputs for m in job.adapted if m.side == "language") if job.lora.use_dora else 0
    return float(DORA_KEPT * job.tokens * outputs)


def _dora_norm(job: Job) -> float:
    """The norm of the largest adapted weight: its sum with B A, and B A by way of an identity matrix, as peft does."""
    sizes = (4.0 * m.inputs**2 + DORA_NORM * m.outputs * m.inputs for m in job.adapted)
    return max(sizes, default=0.0) if job.lora.use_dora else 0.0


def _kept_vision(job: Job) -> float:
    vision = job.model.vision
    assert vision is not None
    if not job.lora.finetune_vision_layers:
        return 0.0
    if job.gpu:
        return 2.0 * job.patches * vision.hidden * vision.layers
    return job.patches * vision.layers * _vision_block(job, VISION_TRAINED)


def _vision_work(job: Job) -> float:
    recomputed = job.gpu and job.lora.finetune_vision_layers
    return job.patches * _vision_block(job, VISION_RECOMPUTED if recomputed else VISION_FORWARD)


def _vision_block(job: Job, kind: tuple[int, int]) -> float:
    vision = job.model.vision
    return kind[0] * vision.hidden + kind[1] * vision.intermediate if vision else 0.0


def _loss(job: Job) -> tuple[float, tuple[float, float]]:
    """Bytes of the loss, and its bounds as shares of these bytes.

    Unsloth's loss of text models reads all tokens, trained on or not (measured on an H100).
    """
    trained = job.row.trained_tokens
    if trained is None or (job.backend == "unsloth" and not job.model.vision):
        trained = job.row.tokens
    logits = job.batch * trained * job.model.text.vocabulary
    beside = (2 if job.gpu else 4) if job.reference else 0
    whole = float(logits * ((LOGIT_BYTES_GPU if job.gpu else LOGIT_BYTES_CPU) + beside))
    if job.backend == "transformers" or not whole:
        return whole, (0.8, 1.2)
    least, usual, most = (
        min(whole * share, limit * GIB) for share, limit in zip((1, 1, 1.25), FUSED_LOSS_GIB, strict=True)
    )
    return usual, (least / usual, most / usual)
