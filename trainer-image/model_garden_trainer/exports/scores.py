"""Where the scores of answers are told: status, log, ``metrics.jsonl`` and files of the output. No failure is fatal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model_garden.contract.evaluation import EffectiveEvaluation
from model_garden.contract.progress import EvaluationEvent, SampleAnswer, SampleEvent
from model_garden.contract.status import EvaluationStatus, OutputStatus, Progress, Samples
from model_garden_trainer.evaluation.answered import FILE as EVALUATION
from model_garden_trainer.evaluation.questions import asking
from model_garden_trainer.events import Metrics, Report, log, report_warning
from model_garden_trainer.exports import outputs


def report_evaluation(
    found: dict[str, Any], output: Path, at: Progress, metrics: Metrics, report: Report
) -> dict[str, Any] | None:
    """The scores of the evaluation: to the status, ``metrics.jsonl`` and the trackers."""
    if problem := found.pop("evaluationFailed", None):
        report_warning(report, f"the model is saved, but its answers could not be evaluated: {problem}")
    if problem := found.pop("harnessFailed", None):
        report_warning(report, f"the model is saved, but it could not do evaluation.harnessTasks: {problem}")
    if "evaluation" not in found:
        return None
    status = EvaluationStatus.model_validate(found.pop("evaluation"))
    if status.rows is not None:
        status.path = outputs.relative(output / EVALUATION)
    report(EvaluationEvent(evaluation=status))
    values = {
        f"{one.task}/{one.metric}" if one.task else one.metric: one.value for one in status.scores if one.field is None
    }
    log(f"evaluation: {', '.join(f'{name} {value:.4f}' for name, value in values.items())}")
    metrics.append(Progress(step=at.step, total_steps=at.total_steps), evaluation=values)
    return status.to_dict()


def during_training(asked: EffectiveEvaluation, metrics: Metrics) -> list[dict[str, Any]]:
    """The scores of ``everyEvaluations`` by step, named as at the end; TRL's own figures are left out.

    So are scores of an attempt or a run before that answered other rows, or in another way.
    """
    names = tuple(f"eval_{metric}" for metric in asked.metrics or ())
    found = []
    for line in metrics.lines():
        own = line.get("metrics") or {} if line.get("asking") == asking(asked) else {}
        if scored := {name.removeprefix("eval_"): value for name, value in own.items() if name.startswith(names)}:
            found.append({"step": line["step"], "scores": scored})
    return found


def report_samples(
    found: dict[str, Any], status: OutputStatus, output: Path, at: Progress, metrics: Metrics, report: Report
) -> None:
    """The rows answered before and after training: to ``samples.json``, ``metrics.jsonl`` and the log."""
    if "samplesFailed" in found:
        report_warning(report, f"no rows were answered for comparison: {found['samplesFailed']}")
        return
    if "scores" not in found:
        return
    status.samples = Samples.model_validate(found["scores"])
    for sample, thumbnail in zip(found["samples"], found.pop("thumbnails"), strict=True):
        report(SampleEvent(sample=SampleAnswer.model_validate(sample | {"thumbnail": thumbnail})))
    for kind, scored in (("training", status.samples.train), ("validation", status.samples.validation)):
        if scored:
            log(
                f"{scored.rows} {kind} row(s) answered: exact {scored.exact_match_before:.0%} before training, "
                f"{scored.exact_match_after:.0%} after; similarity {scored.similarity_before:.2f}, then "
                f"{scored.similarity_after:.2f}"
            )
    metrics.append(Progress(step=at.step, total_steps=at.total_steps), samples=found["samples"])
    try:
        content = {"scores": status.samples.to_dict(), "samples": found["samples"]}
        (output / outputs.SAMPLES).write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    except OSError as error:
        log(f"{output / outputs.SAMPLES}: could not be written: {error}")
