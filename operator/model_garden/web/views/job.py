"""PURE: what the page of one job shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from model_garden import __version__
from model_garden.contract.declaration import shown
from model_garden.contract.names import ANNOTATION_CANCEL, ANNOTATION_STOP
from model_garden.contract.reasons import REASONS
from model_garden.services import format
from model_garden.services.job_view import explanation, has_ended, log_tail, phase, queue_words
from model_garden.services.trainer_log import STAGES
from model_garden.services.yaml_text import yaml_text
from model_garden.web.views import figures
from model_garden.web.views.evaluation import curve_title, evaluation
from model_garden.web.views.output import output
from model_garden.web.views.rows import row
from model_garden.web.views.stages import stages

Object = dict[str, Any]
REPORT_LINES = 20


def details(job: Object, now: datetime) -> dict[str, Any]:
    """Everything that the page of one job shows of its state."""
    status = job.get("status") or {}
    progress = status.get("progress") or {}
    said = explanation(job)
    warned = status.get("warnings") or []
    listed = said.partition(":")[0] in STAGES or any(one["message"] in said for one in warned)
    return {
        **row(job, now),
        "ended": has_ended(job),
        "suspended": bool(job["spec"].get("suspend")),
        "explanation": "" if listed else said,
        "asked": asked(job),
        "stages": stages(job, now),
        "took": took(job, now),
        "tiles": figures.tiles(progress),
        "curve": figures.curve(job),
        "table": figures.table(job),
        "method_curves": figures.method_curves(job),
        "curve_titles": {name: curve_title(name) for name in figures.METHOD_CURVES},
        "method_figures": figures.method_figures(job),
        "step_parts": figures.step_parts(progress),
        "memory": figures.memory(job),
        "facts": facts(job),
        "output": output(job),
        "evaluation": evaluation(job),
        "failure": failure(job),
        "warned": warned,
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
        return "The job is being canceled."
    if annotations.get(ANNOTATION_STOP) == "save":
        return "Training stops after the current step; then the model is saved."
    if job["spec"].get("suspend") and phase(job) != "Suspended":
        return "The job is being suspended: it saves a checkpoint and gives its GPUs back."
    return ""


def stop_choices(job: Object) -> list[dict[str, str]]:
    """The ways to end a job that has not ended: the change to ask for, what the button says, what will exist then."""
    status = job.get("status") or {}
    checkpoint = status.get("lastCheckpointStep")
    kept = f"The checkpoint of step {checkpoint} stays" if checkpoint else "No checkpoint was written yet"
    step = (status.get("progress") or {}).get("step")
    found = []
    if phase(job) == "Running":
        at = f" It has trained {format.count(step, 'step')} so far." if step else ""
        found.append(
            {
                "change": "stop",
                "title": "Stop and keep the model",
                "then": f"Training ends after the current step. The model is saved, exported and verified.{at}",
            }
        )
    found.append(
        {
            "change": "cancel",
            "title": "Stop and discard the run",
            "then": f"The job ends at once, as Cancelled. No model is saved. {kept} in the models folder.",
        }
    )
    return found


def took(job: Object, now: datetime) -> str:
    """How long a job has existed, until its end."""
    end = (job.get("status") or {}).get("completionTime")
    return format.age(job["metadata"]["creationTimestamp"], datetime.fromisoformat(end) if end else now)


def facts(job: Object) -> list[tuple[str, str]]:
    """The job's own data: a label and a value each."""
    spec = job["spec"]
    status = job.get("status") or {}
    effective = status.get("effectiveSpec") or {}
    hyper, lora = effective.get("hyperparameters") or {}, effective.get("loraConfig") or {}
    found = [("Base model", spec["baseModel"]), ("Data set", spec["datasetPath"])]
    if queue := queue_words(job):
        found.append(("Queue", queue))
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
    if status.get("usage"):
        found.append(("GPU time", format.usage_line(status["usage"])))
    return [*found, ("Output", spec.get("outputDir") or effective.get("outputDir") or "")]


def failure(job: Object) -> dict[str, Any] | None:
    """Why the job failed, what to do, the last lines of its log, and all of it as text for a report."""
    failed = (job.get("status") or {}).get("failure")
    if not failed:
        return None
    action = next((one.action for one in REASONS if one.name == failed["reason"]), "")
    return {
        "reason": failed["reason"],
        "message": failed["message"],
        "action": plain_text(action),
        "exit_code": failed.get("exitCode"),
        "lines": log_tail(job),
        "report": report(job),
    }


def plain_text(markdown: str) -> str:
    """A sentence without the marks of Markdown: a link becomes its words, code loses its backticks.

    >>> plain_text("See [its log](https://example.org) with `kubectl logs`.")
    'See its log with kubectl logs.'
    """
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", markdown).replace("`", "")


def report(job: Object) -> str:
    """What another person needs to help with a failed job, as text."""
    status, metadata = job["status"], job["metadata"]
    failed = status["failure"]
    code = f" (exit code {failed['exitCode']})" if failed.get("exitCode") is not None else ""
    attempts = [
        f"  {one['pod']}: {one.get('reason') or 'running'}, steps {one.get('fromStep', 0)} to {one.get('toStep', 0)}"
        for one in status.get("attempts") or ()
    ]
    spec = {key: value for key, value in job["spec"].items() if key != "podTemplate"}  # may hold values of env
    parts = [
        f"TrainingJob {metadata['namespace']}/{metadata['name']}, Model Garden {__version__}",
        f"{failed['reason']}{code}: {failed['message']}",
        "\n".join(["Attempts:", *attempts]) if attempts else "",
        f"Spec:\n{yaml_text(spec)}".rstrip(),
        "\n".join(["Last lines of the log:", *(failed.get("logTail") or ())[-REPORT_LINES:]]),
    ]
    return "\n\n".join(part for part in parts if part)


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
