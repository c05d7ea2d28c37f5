"""What is run: sections, each a job of the trainer or a measurement, in lanes that share a process."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Kind = Literal["make", "train", "parts", "plain"]

BACKENDS = ("unsloth", "transformers")
STEPS, STOP_AFTER = 6, 3
WARM_UP, TIMED, TIMED_SLOWLY = 3, 10, 4
EFFECTIVE_BATCH = 8
ROWS = EFFECTIVE_BATCH * (WARM_UP + TIMED + 1)
"""Rows of each data set: whole steps of one epoch for the longest case."""

SMALL, SMALL_4BIT, TEXT, REAL = "models/vision", "models/vision-4bit", "models/text", "models/benchmark"
VISION_ROWS, TEXT_ROWS, PAIRS = "data/vision.jsonl", "data/text.jsonl", "data/pairs.jsonl"
TEXT_PROMPTS, VISION_PROMPTS = "data/prompts.jsonl", "data/looks.jsonl"
TWO_ROWS = "data/two.jsonl"
"""For the runs whose output is verified: each row of a small data set is answered, which is slow without a GPU."""
SCARCE_GIB = {"unsloth": 1.05, "transformers": 1.35}
"""Too little for 8 rows of the small vision model, and enough for fewer: at most 1.13 and 1.46 GiB were allocated."""

_TRAINS = {"learningRate": 1e-3, "warmupSteps": 1, "maxSteps": STEPS, "maxSeqLength": 1024}
_ON_A_CPU = {"quantization": "none", "hyperparameters": {"maxSeqLength": 500}}
"""Without a GPU: no quantization; and from 512 tokens on Unsloth's gradient checkpointing asks for CUDA."""


@dataclass(frozen=True)
class Section:
    """One check or measurement.

    Attributes:
        name: what it is called in the table; no two are called alike.
        kind: which function of ``worker`` runs it.
        limit: seconds after which its process is ended.
        spec: the part of a job's spec that differs from the defaults; of ``make`` what to write.
        verify: load the output in a fresh process, as a run does.
        stop_after: stop the run at this step, and resume it.
        timed: its steps are a row of the table of step times.
        traced: the last step is recorded with torch's profiler.
        gpu_gib: the process may take so much of the GPU's memory, in GiB, from the step ``scarce_from`` on.
        scarce_from: 0 from the start, before the size of a batch is tried.
        needs: a field of the spec without which the section is skipped.
        skipped: why it is not run.
    """

    name: str
    kind: Kind
    limit: int
    spec: dict[str, Any] = field(default_factory=dict)
    verify: bool = False
    stop_after: int | None = None
    timed: bool = False
    traced: bool = False
    gpu_gib: float | None = None
    scarce_from: int = 0
    needs: str | None = None
    skipped: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Lane:
    """Sections that one process runs one after the other."""

    name: str
    sections: list[Section]


@dataclass(frozen=True)
class Agreement:
    """Two sections that must report the same figures.

    Attributes:
        name: what it is called in the table.
        one: name of a section.
        other: name of the section that it is held against.
        first: from which step on.
        losses: largest difference of a loss.
        norms: largest difference of a gradient norm, as a share; None leaves them out.
    """

    name: str
    one: str
    other: str
    first: int
    losses: float
    norms: float | None


def plan(*, quick: bool, only: str = "", at_once: int = 1) -> tuple[Lane, list[Lane], list[Lane]]:
    """The lane that writes models and rows, the lanes of checks, and those of measurements.

    Args:
        quick: without a GPU, and with tiny models; measurements are among the checks.
        only: sections in whose name this pattern is found.
        at_once: how many lanes of checks each backend has.
    """

    def chosen(sections: list[Section]) -> list[Section]:
        return [section for section in sections if re.search(only, section.name)]

    make = Lane("models", _models())
    measured = [Lane(f"step time, {name}", chosen(_step_time(name))) for name in BACKENDS]
    measured += [Lane(f"step time, plain {name}", chosen(_plain(name))) for name in reversed(BACKENDS)]
    checks = []
    for name in BACKENDS:
        sections = chosen(_checks(name))
        if quick:
            timed = [section for lane in measured for section in lane.sections]
            sections += [section for section in timed if section.spec["backend"] == name]
        checks += [Lane(f"{name} {number}", part) for number, part in enumerate(_dealt(sections, at_once), 1)]
    if quick:
        return _on_a_cpu(make), [_on_a_cpu(lane) for lane in checks], []
    return make, checks, measured


def _dealt(sections: list[Section], hands: int) -> list[list[Section]]:
    return [sections[number::hands] for number in range(min(hands, len(sections)))]


def _checks(backend: str) -> list[Section]:
    made = [*_vision(backend), *_weights(backend), *_text(backend), *_exports(backend)]
    return made + (_methods() if backend == "transformers" else [])


AGREEMENTS = [
    Agreement(
        "both backends, vision", "unsloth: vision, 4-bit", "transformers: vision, 4-bit", 3, losses=0.05, norms=0.02
    ),
    Agreement("both backends, packed", "unsloth: vision, packed", "transformers: vision, packed", 3, 0.05, 0.02),
    Agreement("both backends, text", "unsloth: text, 4-bit", "transformers: text, 4-bit", 3, losses=0.05, norms=0.02),
    *(
        Agreement(
            f"{backend}, resumed and unbroken",
            f"{backend}: stop and resume",
            f"{backend}: vision, 4-bit",
            1,
            losses=0.01,
            norms=0.02,
        )
        for backend in BACKENDS
    ),
    *(
        Agreement(
            f"{backend}, {what} and enough", f"{backend}: {what}", f"{backend}: vision, 4-bit", 1, 0.05, norms=0.02
        )
        for backend in BACKENDS
        for what in ("too little memory for the batch", "memory that runs out")
    ),
    *(
        Agreement(
            f"{backend}, {kind} packed and not",
            f"{backend}: {kind}, packed",
            f"{backend}: {kind}, 4-bit",
            1,
            losses=0.05,
            norms=0.05,
        )
        for backend in BACKENDS
        for kind in ("vision", "text")
    ),
]


def _models() -> list[Section]:
    return [
        Section("small models and rows", "make", 300, {"make": "small"}),
        Section("a base model of 4-bit weights", "make", 60, {"make": "4-bit"}),
        Section("the benchmark's model", "make", 300, {"make": "real"}),
    ]


def _job(backend: str, what: str, limit: int, *parts: dict[str, Any], vision: bool = True, **more: Any) -> Section:
    base: dict[str, Any] = {"baseModel": TEXT, "datasetPath": TEXT_ROWS}
    if vision:
        base = {"baseModel": SMALL, "datasetPath": VISION_ROWS, "isVision": True}
    spec = base | {"backend": backend, "hyperparameters": dict(_TRAINS)}
    for part in parts:
        spec |= part | {"hyperparameters": spec["hyperparameters"] | part.get("hyperparameters", {})}
    return Section(f"{backend}: {what}", "train", limit, spec, **more)


def _vision(backend: str) -> list[Section]:
    packed = {"hyperparameters": {"packing": True}}
    evaluated = {"validationFraction": 0.2, "hyperparameters": {"evalSteps": 3}}
    return [
        _job(backend, "vision, 4-bit", 200),
        _job(backend, "vision, packed", 300, packed),
        _job(backend, "stop and resume", 300, stop_after=STOP_AFTER),
        _job(backend, "evaluation", 300, evaluated),
        _job(backend, "too little memory for the batch", 300, gpu_gib=SCARCE_GIB[backend]),
        _job(backend, "memory that runs out", 300, gpu_gib=SCARCE_GIB[backend], scarce_from=STOP_AFTER),
    ]


def _weights(backend: str) -> list[Section]:
    return [
        _job(backend, "a base model of 4-bit weights", 300, {"baseModel": SMALL_4BIT}),
        _job(backend, "vision, 8-bit", 300, {"quantization": "8bit"}),
        _job(backend, "vision, 16-bit", 300, {"quantization": "16bit"}),
        _job(backend, "vision tower adapted", 300, {"loraConfig": {"finetuneVisionLayers": True}}),
    ]


def _text(backend: str) -> list[Section]:
    packed = {"hyperparameters": {"packing": True}}
    return [
        _job(backend, "text, 4-bit", 300, vision=False),
        _job(backend, "text, packed", 300, packed, vision=False),
    ]


def _exports(backend: str) -> list[Section]:
    merged = "merged_16bit" if backend == "unsloth" else "merged_4bit"
    return [
        _job(backend, merged, 300, {"saveMethod": merged, "datasetPath": TWO_ROWS}, verify=True),
        _job(backend, "verify", 300, {"datasetPath": TWO_ROWS}, verify=True),
    ]


def _methods() -> list[Section]:
    """The other training methods, which run on this backend alone."""
    pairs: dict[str, Any] = {"method": "dpo", "datasetPath": PAIRS}
    rewarded: dict[str, Any] = {
        "method": "grpo",
        "grpo": {"numGenerations": 4, "maxCompletionLength": 16},
        "rewards": {"functions": ["similarity"]},
    }
    return [
        _job("transformers", "DPO", 300, pairs, vision=False),
        _job("transformers", "GRPO, text", 300, rewarded, {"datasetPath": TEXT_PROMPTS}, vision=False),
        _job("transformers", "GRPO, vision", 300, rewarded, {"datasetPath": VISION_PROMPTS}),
    ]


def _step_time(backend: str) -> list[Section]:
    steps = {"maxSteps": WARM_UP + TIMED}
    few = {"maxSteps": WARM_UP + TIMED_SLOWLY}
    real: dict[str, Any] = {"baseModel": REAL, "hyperparameters": {"maxSeqLength": 4096}}

    def case(way: str, given: dict[str, Any], **more: Any) -> Section:
        section = _job(backend, way, 300, real, {"hyperparameters": given}, timed=True, **more)
        return replace(section, name=f"step time, {section.name}")

    parts = replace(_job(backend, "parts of a step", 60, real), kind="parts")
    fitted = case("autoBatchSize", {**steps, "maxSteps": WARM_UP + TIMED + 1, "autoBatchSize": True}, traced=True)
    packing = {**steps, "maxSteps": WARM_UP + TIMED + 1, "autoBatchSize": False, "packing": True}
    packed = case("packed", packing, traced=True)
    row_by_row = case("1 x 8", few | {"autoBatchSize": False})
    return [fitted, packed, *([row_by_row] if backend == "unsloth" else [parts])]


def _plain(backend: str) -> list[Section]:
    """The library that the backend is named after, without this trainer."""
    library = {"unsloth": "Unsloth", "transformers": "TRL"}[backend]

    def case(batch: int, steps: int) -> Section:
        sizes = {"batchSize": batch, "gradientAccumulationSteps": EFFECTIVE_BATCH // batch, "autoBatchSize": False}
        given = {"hyperparameters": {"maxSteps": WARM_UP + steps, "maxSeqLength": 4096, **sizes}}
        name = f"{batch} x {EFFECTIVE_BATCH // batch}"
        section = _job(backend, name, 300, {"baseModel": REAL}, given, timed=True)
        return replace(section, name=f"step time, plain {library}: {name}", kind="plain")

    return [case(EFFECTIVE_BATCH, TIMED), case(1, TIMED_SLOWLY)]


def _on_a_cpu(lane: Lane) -> Lane:
    return Lane(lane.name, [_section_on_a_cpu(section) for section in lane.sections])


def _section_on_a_cpu(section: Section) -> Section:
    spec = section.spec
    section = replace(section, limit=20 * section.limit)
    if section.kind == "make":
        return replace(section, skipped="needs a GPU") if spec["make"] == "4-bit" else section
    quantized = spec.get("quantization") or spec["baseModel"] == SMALL_4BIT or spec.get("saveMethod") == "merged_4bit"
    if quantized or section.gpu_gib:
        return replace(section, skipped="needs a GPU")
    given = spec["hyperparameters"] | _ON_A_CPU["hyperparameters"]
    return replace(section, spec=spec | _ON_A_CPU | {"hyperparameters": given})
