"""Judges what the sections found. Pure functions: figures in, sentences about what is wrong out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tools.gpu_check.plan import Agreement, Section

LEFT_OVER_GIB = 0.1
"""What may stay allocated of the GPU once a run has ended."""
MERGED_DIFFERENCE = {"merged_16bit": 0.05, "merged_4bit": 0.5}
"""Largest distance between merged and adapted logits, as a share of their norm."""

Found = Mapping[str, Any]


def problems(section: Section, found: Found) -> list[str]:
    """What is wrong with a training run; empty where nothing is."""
    steps = found["steps"]
    wrong = []
    if found["result"] != "Succeeded":
        wrong.append(f"the run's result is {found['result']}")
    asked = section.spec["hyperparameters"]["maxSteps"]
    if [step["step"] for step in steps] != list(range(1, asked + 1)):
        wrong.append(f"steps {[step['step'] for step in steps]} were reported, and {asked} asked for")
    may_lack_gradient = section.spec.get("method") == "grpo"  # where all answers to a prompt have the same reward
    for step in steps:
        if not _finite(step.get("loss")):
            wrong.append(f"step {step['step']}: the loss is {step.get('loss')}")
        if not _finite(step.get("gradNorm")) or (step["gradNorm"] <= 0 and not may_lack_gradient):
            wrong.append(f"step {step['step']}: the gradient norm is {step.get('gradNorm')}; nothing trains")
    if not found["changedAdapters"]:
        wrong.append(f"all {found['adapters']} lora_B matrices are 0; nothing was trained")
    if found["leftOverGiB"] is not None and found["leftOverGiB"] > LEFT_OVER_GIB:
        wrong.append(f"{found['leftOverGiB']:.2f} GiB of the GPU stay allocated; at most {LEFT_OVER_GIB} may")
    if section.stop_after and found["resumedAt"] != [found["stoppedAt"]]:
        wrong.append(f"the run stopped at step {found['stoppedAt']}, and resumed at {found['resumedAt']}")
    if section.spec.get("validationFraction") and not all(map(_finite, found["evalLosses"] or [None])):
        wrong.append(f"the losses of evaluation are {found['evalLosses']}")
    if section.gpu_gib and not any("memory" in warning for warning in found["warnings"]):
        wrong.append(f"the batch was not halved, although the process had {section.gpu_gib} GiB")
    return wrong + _of_export(section, found)


def _of_export(section: Section, found: Found) -> list[str]:
    tolerated = MERGED_DIFFERENCE.get(section.spec.get("saveMethod", ""))
    if tolerated is None:
        return []
    difference = found["verification"].get("difference")
    if difference is None:
        return ["the merged model was not compared with the adapter"]
    if difference > tolerated:
        return [f"merged and adapted logits differ by {difference:.3f}; at most {tolerated} is rounding"]
    return []


def disagreements(agreement: Agreement, one: Found, other: Found) -> list[str]:
    """Where two runs differ that must not; empty where they agree."""
    theirs = {step["step"]: step for step in other["steps"]}
    wrong = []
    for step in one["steps"]:
        number = step["step"]
        if number < agreement.first or number not in theirs:
            continue
        mine, yours = step["loss"], theirs[number]["loss"]
        if abs(mine - yours) > agreement.losses:
            wrong.append(f"step {number}: loss {mine:.4f} and {yours:.4f}; at most {agreement.losses} apart")
        mine, yours = step["gradNorm"], theirs[number]["gradNorm"]
        if agreement.norms is not None and abs(mine - yours) > agreement.norms * max(mine, yours):
            wrong.append(
                f"step {number}: gradient norm {mine:.4f} and {yours:.4f}; at most {agreement.norms:.0%} apart"
            )
    return wrong


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
