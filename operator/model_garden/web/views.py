"""PURE: what the pages show of a TrainingJob, from the plain resource."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from model_garden.contract.declaration import shown
from model_garden.contract.names import ANNOTATION_CANCEL, ANNOTATION_STOP
from model_garden.contract.pod import GPU_RESOURCE
from model_garden.contract.reasons import REASONS
from model_garden.services import format
from model_garden.services.job_view import explanation, has_ended, is_vision, log_tail, losses, phase
from model_garden.services.trainer_log import STAGES

Object = dict[str, Any]
StepState = Literal["done", "current", "failed", "next"]
TONES = {"Succeeded": "good", "Failed": "bad", "Cancelled": "off", "Suspended": "warn", "Running": "live"}
"""The color of each phase; all others wait."""
SPARK_WIDTH, SPARK_HEIGHT = 120, 28


@dataclass(frozen=True)
class StageView:
    """One stage of a job's life: how far it is, for how long, and what it says."""

    title: str
    state: StepState
    detail: str = ""
    seconds: float | None = None

    @property
    def duration(self) -> str:
        """The time it took, or has taken so far."""
        return "" if self.seconds is None else format.duration(self.seconds)


def tone(job: Object) -> str:
    """The color of the job's phase."""
    return TONES.get(phase(job), "wait")


def row(job: Object, now: datetime) -> dict[str, Any]:
    """One line of the table of jobs."""
    status = job.get("status") or {}
    progress = status.get("progress") or {}
    ended = has_ended(job)
    left = None if ended else format.seconds_left(progress, now)
    return {
        "name": job["metadata"]["name"],
        "phase": phase(job),
        "tone": tone(job),
        "vision": is_vision(job),
        "model": job["spec"]["baseModel"],
        "percent": percent(progress),
        "steps": format.steps(progress),
        "loss": format.loss(progress.get("loss")),
        "spark": spark_points(losses(job)),
        "left": format.duration(left) if left and phase(job) == "Running" else "",
        "age": format.age(job["metadata"]["creationTimestamp"], now),
        "created": job["metadata"]["creationTimestamp"],
        "note": "" if phase(job) in ("Running", "Succeeded") else explanation(job),
    }


def percent(progress: Mapping[str, Any]) -> float:
    """The share of steps that are done, 0 to 100."""
    total = progress.get("totalSteps")
    return round(100 * progress["step"] / total, 1) if total else 0.0


def spark_points(values: Sequence[float]) -> str:
    """A curve as the points of an SVG polyline in a box of ``SPARK_WIDTH`` by ``SPARK_HEIGHT``; '' below two values."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    wide, tall = SPARK_WIDTH - 4, SPARK_HEIGHT - 6
    return " ".join(
        f"{2 + wide * number / (len(values) - 1):.1f},{3 + tall * (high - value) / span:.1f}"
        for number, value in enumerate(values)
    )


def matches(job: Object, search: str, wanted: str) -> bool:
    """Whether a job is shown for a search text (name, model or data set) and a phase; '' takes all."""
    text = " ".join((job["metadata"]["name"], job["spec"]["baseModel"], job["spec"]["datasetPath"])).lower()
    return search.lower() in text and wanted in ("", phase(job))


def details(job: Object, now: datetime) -> dict[str, Any]:
    """Everything that the page of one job shows of its state."""
    status = job.get("status") or {}
    progress = status.get("progress") or {}
    ended = has_ended(job)
    left = None if ended else format.seconds_left(progress, now)
    return {
        **row(job, now),
        "ended": ended,
        "suspended": bool(job["spec"].get("suspend")),
        "explanation": "" if explanation(job) in STAGES else explanation(job),
        "asked": asked(job),
        "stages": stages(job, now),
        "tiles": tiles(progress, left),
        "curve": curve(job),
        "facts": facts(job),
        "estimate": status.get("estimate"),
        "measured": progress.get("gpuMemoryGiB"),
        "output": output(job),
        "failure": failure(job),
        "attempts": [attempt(one, now) for one in status.get("attempts") or ()],
    }


def asked(job: Object) -> str:
    """What a person asked of a job that has not happened yet."""
    annotations = job["metadata"].get("annotations") or {}
    if has_ended(job):
        return ""
    if job["metadata"].get("deletionTimestamp"):
        return "The job is being deleted."
    if annotations.get(ANNOTATION_CANCEL) == "true":
        return "The job is being cancelled."
    if annotations.get(ANNOTATION_STOP) == "save":
        return "Training stops after the current step; then the model is saved."
    if job["spec"].get("suspend") and phase(job) != "Suspended":
        return "The job is being suspended: it saves a checkpoint and gives its GPUs back."
    return ""


def stages(job: Object, now: datetime) -> list[StageView]:
    """The stages of the job's life in order, with the time each took where both its ends are known."""
    status = job.get("status") or {}
    created, started = job["metadata"]["creationTimestamp"], status.get("startTime")
    prepared, completed = status.get("preflightCompletionTime"), status.get("completionTime")
    current = _position(job)
    has_preflight = bool(prepared) or phase(job) == "Preparing" or (not started and _wants_preflight(job))
    titles = ["Created", *(["Preflight"] if has_preflight else []), "Waiting for a node", *STAGES.values()]
    times: dict[str, tuple[str | None, str | None]] = {
        "Preflight": (created, prepared),
        "Waiting for a node": (prepared or created, started),
        "Training": (started, completed),
    }
    place = titles.index(current) if current in titles else len(titles)
    found = []
    for number, title in enumerate(titles):
        state: StepState = "done" if number < place else "next"
        if number == place:
            state = "failed" if phase(job) in ("Failed", "Cancelled") else "current"
        begin, end = times.get(title, (None, None))
        if state == "current" and not end:
            end = now.isoformat()
        seconds = format.seconds_between(begin, end) if state != "next" else None
        found.append(StageView(title, state, explanation(job) if state == "current" else "", seconds))
    return found


def _position(job: Object) -> str:
    """The title of the stage that the job is in, or in which it ended; '' for one that succeeded."""
    status, now_phase = job.get("status") or {}, phase(job)
    if now_phase == "Succeeded":
        return ""
    if now_phase == "Preparing":
        return "Preflight"
    if now_phase == "Running":
        said = explanation(job).removeprefix("stopping early and saving; ").partition(":")[0]
        return STAGES.get(said, "Training" if status.get("progress") else "Loading model")
    if status.get("progress") and has_ended(job):
        return "Training"
    if has_ended(job) and not status.get("preflightCompletionTime") and _wants_preflight(job):
        return "Preflight"
    return "Loading model" if has_ended(job) and status.get("startTime") else "Waiting for a node"


def _wants_preflight(job: Object) -> bool:
    spec = (job.get("status") or {}).get("effectiveSpec") or job["spec"]
    limits = (spec.get("resources") or {}).get("limits") or {}
    return spec.get("preflight") != "Disabled" and str(limits.get(GPU_RESOURCE, 1)) != "0"


def tiles(progress: Mapping[str, Any], left: float | None) -> list[tuple[str, str]]:
    """The latest figures: a label and a value each."""
    figures: tuple[tuple[str, str, str], ...] = (
        ("Loss", "loss", "{:.4f}"),
        ("Evaluation loss", "evalLoss", "{:.4f}"),
        ("Gradient norm", "gradNorm", "{:.2f}"),
        ("Epoch", "epoch", "{:.2f}"),
        ("Seconds per step", "secondsPerStep", "{:.2f}"),
        ("Tokens per second", "tokensPerSecond", "{:,.0f}"),
        ("GPU memory", "gpuMemoryGiB", "{:.1f} GiB"),
    )
    found = [("Step", format.steps(progress))] if progress.get("totalSteps") else []
    if progress.get("learningRate") is not None:
        found.append(("Learning rate", f"{progress['learningRate']:.2g}"))
    found += [(label, text.format(progress[key])) for label, key, text in figures if progress.get(key) is not None]
    return found + ([("Time left", format.duration(left))] if left and left >= 1 else [])


def curve(job: Object) -> str:
    """The curves as JSON for the chart: steps, and for each of them a value or null."""
    status = job.get("status") or {}
    history = list(status.get("history") or ())
    points = {
        "step": [point["step"] for point in history],
        "loss": [point.get("loss") for point in history],
        "evalLoss": [point.get("evalLoss") for point in history],
        "learningRate": [point.get("learningRate") for point in history],
        "attempts": [one["fromStep"] for one in (status.get("attempts") or ())[1:] if one.get("fromStep") is not None],
        "checkpoint": status.get("lastCheckpointStep"),
    }
    return json.dumps(points)


def facts(job: Object) -> list[tuple[str, str]]:
    """The job's own data: a label and a value each."""
    spec = job["spec"]
    status = job.get("status") or {}
    effective = status.get("effectiveSpec") or {}
    hyper, lora = effective.get("hyperparameters") or {}, effective.get("loraConfig") or {}
    found = [("Base model", spec["baseModel"]), ("Data set", spec["datasetPath"])]
    if status.get("dataset"):
        found.append(("Rows", format.dataset_line(status["dataset"])))
    if hyper:
        batch, accumulation = hyper["batchSize"], hyper["gradientAccumulationSteps"]
        found.append(("Batch", f"{batch} × {accumulation} = {batch * accumulation} rows per step and GPU"))
        found.append(("Learning rate", f"{shown(hyper['learningRate'])}, {hyper['lrSchedulerType']}"))
        found.append(("Epochs", f"{hyper['numEpochs']:g}" if hyper["maxSteps"] < 0 else f"{hyper['maxSteps']} steps"))
    if lora:
        found.append(("LoRA", f"rank {lora['r']}, alpha {lora['loraAlpha']}"))
    found += [
        (label, str(effective[key]))
        for label, key in (("Quantization", "quantization"), ("Backend", "backend"))
        if key in effective
    ]
    return [*found, ("Output", spec.get("outputDir") or effective.get("outputDir") or "")]


def output(job: Object) -> dict[str, Any] | None:
    """The model: where it is, how to load it, and how it answered; None before there is one."""
    made = (job.get("status") or {}).get("output")
    if not made:
        return None
    scored = made.get("samples") or {}
    return {
        "path": made["path"],
        "size": format.size(made.get("sizeBytes")),
        "verified": made.get("verified"),
        "hub": made.get("hubUrl"),
        "adapter": made.get("adapterPath"),
        "usage": format.load_hint(made, vision=is_vision(job)),
        "serve": f"vllm serve {made.get('mergedPath')}" if made.get("mergedPath") else "",
        "samples": [
            (title, scored[key]["rows"], _scores(scored[key]))
            for key, title in (("validation", "validation"), ("train", "training"))
            if scored.get(key)
        ],
    }


def _scores(scored: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """What is scored, and the score before and after training, from 0 to 1."""
    return [
        ("Exact answers", scored["exactMatchBefore"], scored["exactMatchAfter"]),
        ("Similarity", scored["similarityBefore"], scored["similarityAfter"]),
    ]


def failure(job: Object) -> dict[str, Any] | None:
    """Why the job failed, what to do, and the last lines of its log."""
    failed = (job.get("status") or {}).get("failure")
    if not failed:
        return None
    action = next((one.action for one in REASONS if one.name == failed["reason"]), "")
    return {
        "reason": failed["reason"],
        "message": failed["message"],
        "action": action.replace("`", ""),
        "exit_code": failed.get("exitCode"),
        "lines": log_tail(job),
    }


def attempt(one: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """One pod that trained."""
    seconds = format.seconds_between(one.get("startTime"), one.get("endTime") or now.isoformat())
    return {
        "pod": one["pod"],
        "node": one.get("node") or "",
        "steps": f"{one.get('fromStep', 0)} to {one['toStep']}" if one.get("toStep") is not None else "",
        "duration": "" if seconds is None else format.duration(seconds),
        "end": one.get("reason") or "running",
        "message": one.get("message") or "",
    }


def now() -> datetime:
    """The time of a rendering."""
    return datetime.now(UTC)
