"""PURE: the figures of a run: the latest ones, the curves, where a step's time goes, and memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from model_garden.services import format

Object = dict[str, Any]
CURVES = ("loss", "evalLoss", "learningRate", "gradNorm", "tokensPerSecond")
METHOD_CURVES = (
    "rewards/margins",
    "rewards/accuracies",
    "rewards/chosen",
    "rewards/rejected",
    "log_odds_chosen",
    "reward",
    "reward_std",
    "completions/mean_length",
    "kl",
    *(f"eval_{name}" for name in ("exact_match", "similarity", "json_fields_f1", "anls", "iou")),
)
"""Figures of training methods, and of answers to held-out rows, that get a chart, where a run has them."""
_TILES = (
    ("Loss", "loss", "{:.4f}"),
    ("Evaluation loss", "evalLoss", "{:.4f}"),
    ("Learning rate", "learningRate", "{:.2g}"),
    ("Gradient norm", "gradNorm", "{:.2f}"),
    ("Epoch", "epoch", "{:.2f}"),
    ("Seconds per step", "secondsPerStep", "{:.2f}"),
    ("Tokens per second", "tokensPerSecond", "{:,.0f}"),
)
_STEP_PARTS = (
    ("Data", "dataSeconds"),
    ("Forward", "forwardSeconds"),
    ("Backward", "backwardSeconds"),
    ("Optimizer", "optimizerSeconds"),
)


def tiles(progress: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The latest figures: a label and a value each."""
    return [(label, text.format(progress[key])) for label, key, text in _TILES if progress.get(key) is not None]


def points(job: Object) -> dict[str, Any]:
    """The curves: steps, for each of them a value or null, and the steps to mark."""
    status = job.get("status") or {}
    history = status.get("history") or ()
    attempts = [one.get("fromStep") for one in (status.get("attempts") or ())[1:]]
    return {
        "name": job["metadata"]["name"],
        "step": [point["step"] for point in history],
        **{key: [point.get(key) for point in history] for key in CURVES},
        **{name: [(point.get("metrics") or {}).get(name) for point in history] for name in method_curves(job)},
        "attempts": [step for step in attempts if step is not None],
        "checkpoints": status.get("checkpointSteps") or [],
    }


def method_curves(job: Object) -> list[str]:
    """The figures of ``METHOD_CURVES`` that the run has."""
    history = (job.get("status") or {}).get("history") or ()
    known = {name for point in history for name in point.get("metrics") or {}}
    return [name for name in METHOD_CURVES if name in known]


def method_figures(job: Object) -> list[tuple[str, str]]:
    """The latest figures of the training method: a name and a value each."""
    found = ((job.get("status") or {}).get("progress") or {}).get("metrics") or {}
    return [(name, f"{value:.4g}") for name, value in sorted(found.items())]


def curve(job: Object) -> str:
    """``points`` as JSON."""
    return json.dumps(points(job), separators=(",", ":"))


def table(job: Object) -> list[tuple[str, ...]]:
    """The curves as text, a tuple for each step: the step and the values in the order of ``CURVES`` and of
    ``method_curves``."""
    formats = ("{:.4f}", "{:.4f}", "{:.3g}", "{:.3f}", "{:,.0f}")
    own = method_curves(job)
    return [
        (
            str(point["step"]),
            *(
                text.format(point[key]) if point.get(key) is not None else ""
                for key, text in zip(CURVES, formats, strict=True)
            ),
            *(f"{value:.4g}" if (value := (point.get("metrics") or {}).get(name)) is not None else "" for name in own),
        )
        for point in (job.get("status") or {}).get("history") or ()
    ]


def step_parts(progress: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where the time of a step goes: of each part its seconds, its share, and where it begins, in percent.

    What the trainer does not measure, such as writing a checkpoint, is ``Other``. ``Answers`` are those to the rows of
    spec.evaluation between two steps, spread over the steps from one time to the next.
    """
    whole = progress.get("secondsPerStep")
    if not whole or progress.get("forwardSeconds") is None:
        return []
    seconds = [(title, float(progress.get(key) or 0)) for title, key in _STEP_PARTS]
    whole = max(whole, sum(value for _, value in seconds))
    seconds.append(("Other", whole - sum(value for _, value in seconds)))
    if answers := progress.get("answeringSeconds"):
        seconds.append(("Answers", answers))
        whole += answers
    found, begin = [], 0.0
    for title, value in seconds:
        share = 100 * value / whole
        found.append({"title": title, "seconds": f"{value:.2f}", "share": round(share, 1), "begin": round(begin, 1)})
        begin += share
    return found


def memory(job: Object) -> dict[str, Any] | None:
    """The memory that was estimated, by parts, and that was measured, on one scale; None without either."""
    status = job.get("status") or {}
    estimate, measured = status.get("estimate"), (status.get("progress") or {}).get("gpuMemoryGiB")
    if not estimate and not measured:
        return None
    total = estimate["totalGiB"] if estimate else 0.0
    scale = max(total, measured or 0.0) or 1.0
    parts, begin = [], 0.0
    for part in estimate["parts"] if estimate else ():
        share = 100 * part["sizeGiB"] / scale
        parts.append(
            {
                "title": part["name"],
                "detail": part["detail"],
                "size": f"{part['sizeGiB']:.1f}",
                "share": round(share, 1),
                "begin": round(begin, 1),
            }
        )
        begin += share
    return {
        "title": "Memory" if not measured and estimate and estimate["memory"] != "GPU" else "GPU memory",
        "estimated": f"{total:.1f} GiB" if estimate else "",
        "line": format.memory_line(estimate) if estimate else "",
        "measured": f"{measured:.1f} GiB" if measured else "",
        "measured_share": round(100 * (measured or 0.0) / scale, 1),
        "parts": parts,
    }
