"""``spec.evaluation``: the base model and the trained one answer held-out rows, and their answers are scored.

It happens in the process that checks the output (``verify``): what is scored is what the saved files answer, on each
backend alike, and a failure costs neither the model nor the run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from model_garden.contract.evaluation import EffectiveEvaluation, EvaluationMetric
from model_garden.contract.spec import EffectiveSpec
from model_garden.contract.status import MAX_SCORES, EvaluationScore, EvaluationStatus, Stage
from model_garden.contract.time import timestamp
from model_garden_trainer.atomic_file import write_atomically
from model_garden_trainer.batches.collator import Collator
from model_garden_trainer.batches.splits import Data
from model_garden_trainer.evaluation import json_fields
from model_garden_trainer.evaluation.answered import FILE, Answered
from model_garden_trainer.evaluation.answering import Answer, BaseModel, answer_all
from model_garden_trainer.evaluation.metrics import METRICS
from model_garden_trainer.evaluation.questions import Question, asked_text, path_of, questions, rows_of
from model_garden_trainer.events import Report, report_stage, report_warning

REPORT_SECONDS = 2.0
Item = TypeVar("Item")


@dataclass(frozen=True)
class Scored:
    """What a model answered: the answers, each beside those accepted, and its score by each metric."""

    answers: Sequence[Answer]
    rows: Sequence[Answered]
    values: Sequence[dict[EvaluationMetric, float]]

    def summary(self, metric: EvaluationMetric) -> dict[str, float]:
        """The scores of all answers by a metric."""
        return dict(METRICS[metric].summary(self.rows, [one[metric] for one in self.values]))


def evaluate(
    spec: EffectiveSpec, data: Data, model: Any, base: BaseModel, encoder: Collator, output: Path, report: Report
) -> tuple[EvaluationStatus, list[EvaluationScore]]:
    """Answer and score the rows, and write each of them to ``FILE`` in ``output``.

    Args:
        spec: one with ``evaluation``.
        data: the job's.
        model: the trained model, in evaluation mode.
        base: gives the base model.
        encoder: a collator that labels answers.
        output: the output folder.
        report: gets the progress, and a warning if answers were cut.

    Returns:
        The status without scores, and all scores.

    Raises:
        TrainingError: InvalidDataset for a row that cannot be read.
        OSError: the file cannot be written.
    """
    asked = spec.evaluation
    assert asked is not None
    rows = questions(spec, data)
    before = None
    if asked.compare_base:
        with base() as untrained:
            answers = _answers(asked, rows, untrained, encoder, "base model", report)
        before = scored(asked, rows, answers, "base model", report)
    answers = _answers(asked, rows, model, encoder, "trained model", report)
    after = scored(asked, rows, answers, "trained model", report)
    _write(output / FILE, rows, before, after)
    if cut := sum(answer.cut for answer in answers):
        report_warning(
            report,
            f"{cut} of {len(rows)} answers were cut at {asked.max_new_tokens} tokens; raise evaluation.maxNewTokens",
        )
    status = EvaluationStatus(
        rows=len(rows),
        total_rows=len(rows_of(data)),
        dataset_path=path_of(spec),
        scores=[],
        completion_time=timestamp(),
    )
    return status, scores(asked, before, after)


def fitting(found: Sequence[EvaluationScore], report: Report) -> list[EvaluationScore]:
    """The scores that the status has room for, those of single fields last. Warnings count the others."""
    ordered = sorted(found, key=lambda one: one.field is not None)
    left = ordered[MAX_SCORES:]
    tasks, fields = sum(one.task is not None for one in left), sum(one.field is not None for one in left)
    if tasks:
        report_warning(report, f"status.evaluation has room for {MAX_SCORES} scores: {tasks} are in harness.json only")
    if fields:
        words = f"scores of {fields} field(s) are left out; evaluation.jsonl has each answer"
        report_warning(report, f"status.evaluation has room for {MAX_SCORES} scores: {words}")
    return ordered[:MAX_SCORES]


def scores(asked: EffectiveEvaluation, before: Scored | None, after: Scored) -> list[EvaluationScore]:
    """The scores of the answers of the base model, if there are any, and of the trained one."""
    found: list[EvaluationScore] = []
    for metric in asked.metrics or ():
        found += _pairs(None if before is None else before.summary(metric), after.summary(metric))
    if "json_fields" in (asked.metrics or ()):
        fields = json_fields.by_field(after.rows)
        old = None if before is None else json_fields.by_field(before.rows)
        found += [
            one.model_copy(update={"metric": "json_fields_accuracy", "field": one.metric})
            for one in _pairs(old, fields)
        ]
    return found


def _pairs(before: Any, after: Any) -> Iterator[EvaluationScore]:
    for name, value in after.items():
        old = None if before is None else round(before[name], 4)
        yield EvaluationScore(metric=name, value=round(value, 4), base_value=old)


def _answers(
    asked: EffectiveEvaluation, rows: Sequence[Question], model: Any, encoder: Collator, who: str, report: Report
) -> list[Answer]:
    found = answer_all(rows, model, encoder, new_tokens=asked.max_new_tokens, batch_size=asked.batch_size)
    return listed(found, len(rows), f"evaluating the {who}", report)


def scored(
    asked: EffectiveEvaluation,
    rows: Sequence[Question],
    answers: Sequence[Answer],
    who: str,
    report: Report,
    stage: Stage = "verifying",
) -> Scored:
    """Score each answer once by each metric: a metric may take seconds for a long answer."""
    beside = [Answered(row.accepted, answer.text) for row, answer in zip(rows, answers, strict=True)]
    found = (
        {metric: METRICS[metric].score(one.accepted, one.answer) for metric in asked.metrics or ()} for one in beside
    )
    return Scored(answers, beside, listed(found, len(rows), f"scoring the {who}", report, stage))


def listed(items: Iterator[Item], total: int, what: str, report: Report, stage: Stage = "verifying") -> list[Item]:
    """The items; how many there are is reported at once, every few seconds, and at the end."""
    found: list[Item] = []

    def tell() -> float:
        report_stage(report, stage, f"{what}: {len(found)} of {total} answers")
        return time.monotonic()

    told = tell()
    for item in items:
        found.append(item)
        if time.monotonic() - told >= REPORT_SECONDS or len(found) == total:
            told = tell()
    return found


def _write(path: Path, rows: Sequence[Question], before: Scored | None, after: Scored) -> None:
    lines = []
    for at, row in enumerate(rows):
        answer = after.answers[at]
        line: dict[str, Any] = {"row": row.origin, "prompt": asked_text(row.example), "expected": row.accepted}
        line |= {"answer": answer.text, "scores": _rounded(after.values[at]), "cut": answer.cut}
        if before is not None:
            line |= {"baseAnswer": before.answers[at].text, "baseScores": _rounded(before.values[at])}
        lines.append(json.dumps(line, ensure_ascii=False))
    write_atomically(path, "\n".join(lines) + "\n")


def _rounded(values: dict[EvaluationMetric, float]) -> dict[EvaluationMetric, float]:
    return {metric: round(value, 4) for metric, value in values.items()}
