"""``spec.evaluation``: the base model and the trained one answer held-out rows, and their answers are scored.

It happens in the process that checks the output (``verify``): what is scored is what the saved files answer, on each
backend alike, and a failure costs neither the model nor the run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from model_garden.contract.evaluation import EffectiveEvaluation
from model_garden.contract.spec import EffectiveSpec
from model_garden.contract.status import MAX_SCORES, EvaluationScore, EvaluationStatus
from model_garden.contract.time import timestamp
from model_garden_trainer.batches.collator import Collator
from model_garden_trainer.batches.splits import Data
from model_garden_trainer.evaluation import json_fields
from model_garden_trainer.evaluation.answered import Answered
from model_garden_trainer.evaluation.answering import Answer, BaseModel, answer_all
from model_garden_trainer.evaluation.metrics import METRICS
from model_garden_trainer.evaluation.questions import Question, asked_text, path_of, questions, rows_of
from model_garden_trainer.events import Report, report_stage, report_warning

FILE = "evaluation.jsonl"
"""In the output folder: one line for each row, with its answers and their scores."""
REPORT_SECONDS = 2.0


def evaluate(
    spec: EffectiveSpec, data: Data, model: Any, base: BaseModel, encoder: Collator, output: Path, report: Report
) -> EvaluationStatus:
    """Answer and score the rows, and write each of them to ``FILE`` in ``output``.

    Args:
        spec: one with ``evaluation``.
        data: the job's.
        model: the trained model, in evaluation mode.
        base: gives the base model.
        encoder: a collator that labels answers.
        output: the output folder.
        report: gets the progress, and a warning if answers were cut.

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
            before = _answers(asked, rows, untrained, encoder, "base model", report)
    after = _answers(asked, rows, model, encoder, "trained model", report)
    _write(output / FILE, asked, rows, before, after)
    if cut := sum(answer.cut for answer in after):
        report_warning(
            report,
            f"{cut} of {len(rows)} answers were cut at {asked.max_new_tokens} tokens; raise evaluation.maxNewTokens",
        )
    return EvaluationStatus(
        rows=len(rows),
        total_rows=len(rows_of(data)),
        dataset_path=path_of(spec),
        scores=scores(asked, _beside(rows, before), _beside(rows, after) or []),
        completion_time=timestamp(),
    )


def scores(
    asked: EffectiveEvaluation, before: Sequence[Answered] | None, after: Sequence[Answered]
) -> list[EvaluationScore]:
    """The scores of the answers of the base model, if there are any, and of the trained one."""
    found: list[EvaluationScore] = []
    for metric in asked.metrics:
        summary = METRICS[metric].summary
        found += _pairs(None if before is None else summary(before), summary(after))
    if "json_fields" in asked.metrics:
        fields = json_fields.by_field(after)
        old = None if before is None else json_fields.by_field(before)
        found += [
            one.model_copy(update={"metric": "json_fields_accuracy", "field": one.metric})
            for one in _pairs(old, fields)
        ]
    return found[:MAX_SCORES]


def _pairs(before: Any, after: Any) -> Iterator[EvaluationScore]:
    for name, value in after.items():
        old = None if before is None else round(before[name], 4)
        yield EvaluationScore(metric=name, value=round(value, 4), base_value=old)


def _answers(
    asked: EffectiveEvaluation, rows: Sequence[Question], model: Any, encoder: Collator, who: str, report: Report
) -> list[Answer]:
    found: list[Answer] = []
    told = time.monotonic()
    for answer in answer_all(rows, model, encoder, new_tokens=asked.max_new_tokens, batch_size=asked.batch_size):
        found.append(answer)
        if time.monotonic() - told >= REPORT_SECONDS or len(found) == len(rows):
            told = time.monotonic()
            report_stage(report, "verifying", f"evaluating the {who}: {len(found)} of {len(rows)} answers")
    return found


def _beside(rows: Sequence[Question], answers: Sequence[Answer] | None) -> list[Answered] | None:
    if answers is None:
        return None
    return [Answered(row.accepted, answer.text) for row, answer in zip(rows, answers, strict=True)]


def _write(
    path: Path,
    asked: EffectiveEvaluation,
    rows: Sequence[Question],
    before: Sequence[Answer] | None,
    after: Sequence[Answer],
) -> None:
    def scored(row: Question, answer: Answer) -> dict[str, float]:
        return {metric: round(METRICS[metric].score(row.accepted, answer.text), 4) for metric in asked.metrics}

    lines = []
    for number, (row, answer) in enumerate(zip(rows, after, strict=True)):
        line: dict[str, Any] = {"row": row.origin, "prompt": asked_text(row.example), "expected": row.accepted}
        line |= {"answer": answer.text, "scores": scored(row, answer), "cut": answer.cut}
        if before is not None:
            line |= {"baseAnswer": before[number].text, "baseScores": scored(row, before[number])}
        lines.append(json.dumps(line, ensure_ascii=False))
    partial = path.with_suffix(".partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.replace(path)
