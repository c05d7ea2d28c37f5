"""The rows that a model answers for ``spec.evaluation``. No torch here: the preflight checks them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_garden.contract.evaluation import EffectiveEvaluation
from model_garden.contract.spec import EffectiveSpec
from model_garden.datasets import CheckReport, Example
from model_garden.datasets.formats.prompts import ANSWERS
from model_garden_trainer.batches.splits import Data, Subset, check_rows, refuse_trained_files
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.evaluation.metrics import METRICS

QUESTION_CHARACTERS = 400


@dataclass(frozen=True)
class Question:
    """A row up to its last answer, and the answers that are accepted, of which there is at least one."""

    example: Example
    accepted: tuple[str, ...]

    @property
    def origin(self) -> str:
        """File and number of the row."""
        return str(self.example.origin)


def asking(asked: EffectiveEvaluation) -> str:
    """A digest of the settings by which rows are chosen and answered: scores under others do not compare.

    The settings are no part of a run's fingerprint, so that a resumed or a finished run may have others.
    """
    fields = {"dataset_path", "dataset_split", "answer_column", "max_rows", "max_new_tokens"}
    return hashlib.sha256(asked.model_dump_json(include=fields).encode()).hexdigest()[:16]


def rows_of(data: Data) -> Subset:
    """The rows that are answered: those of ``evaluation.datasetPath``, or the validation rows."""
    return data.validation if data.evaluation is None else data.evaluation


def questions(spec: EffectiveSpec, data: Data) -> list[Question]:
    """Up to ``maxRows`` questions, evenly spread over the rows. A row for KTO whose answer is not wanted is left out.

    Raises:
        TrainingError: InvalidDataset for a row without an answer, or one that a metric cannot compare with.
    """
    asked, rows = spec.evaluation, rows_of(data)
    assert asked is not None
    wanted = _wanted(spec, rows)
    if not wanted:
        raise TrainingError("InvalidDataset", f"{path_of(spec)}: has no row with a wanted answer to compare with")
    return [_question(spec, rows, wanted[at]) for at in _spread(len(wanted), asked.max_rows)]


def check(spec: EffectiveSpec, data: Data) -> CheckReport | None:
    """See before training that the rows can be read and compared with, and that they are not trained on.

    Returns:
        The report of the rows of ``evaluation.datasetPath``, if they are answered.

    Raises:
        TrainingError: InvalidDataset, naming file and row.
    """
    if spec.evaluation is None or not spec.evaluation.metrics:
        return None
    report = None
    if data.evaluation is not None:
        report = check_rows(data.evaluation, data.bounds)
        refuse_trained_files("evaluation.datasetPath", path_of(spec), data.evaluation.rows, data.training.rows)
    questions(spec, data)
    return report


def path_of(spec: EffectiveSpec) -> str:
    """The data set whose rows are answered."""
    asked = spec.evaluation
    return (asked and asked.dataset_path) or spec.validation_dataset_path or spec.dataset_path


def asked_text(example: Example) -> str:
    """The last turn before the answer, at most ``QUESTION_CHARACTERS`` of it; '' for a row of plain text."""
    turns = [message for message in example.messages if message.role != "assistant"]
    text = turns[-1].text.strip() if turns and example.kind != "text" else ""
    return text if len(text) <= QUESTION_CHARACTERS else text[: QUESTION_CHARACTERS - 1] + "…"


def answer_of(columns: Mapping[str, Any], column: str | None) -> Any:
    """The value of the first of the columns with an expected answer; None if there is none."""
    names = (column,) if column else ANSWERS
    return next((columns[name] for name in names if columns.get(name) is not None), None)


def as_text(value: Any) -> str:
    """An expected answer as text: JSON of a value that is none."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _wanted(spec: EffectiveSpec, rows: Subset) -> Sequence[int]:
    """The rows whose answer is not an unwanted one, which only rows for KTO can have: others are not read for it."""
    every = range(len(rows))
    return [index for index in every if rows[index].label is not False] if spec.method == "kto" else every


def _spread(rows: int, most: int) -> Iterator[int]:
    count = min(rows, most)
    return (index * rows // count for index in range(count))


def _question(spec: EffectiveSpec, rows: Subset, index: int) -> Question:
    asked, example = spec.evaluation, rows[index]
    assert asked is not None
    accepted = _accepted(example, rows, index, asked.answer_column)
    for metric in asked.metrics or ():
        if problem := METRICS[metric].problem(accepted):
            raise TrainingError("InvalidDataset", f"{example.origin}: {problem}, or remove {metric} from metrics")
    return Question(_up_to_last_answer(example), tuple(accepted))


def _accepted(example: Example, rows: Subset, index: int, column: str | None) -> Sequence[str]:
    """The accepted answers of a row.

    Raises:
        TrainingError: InvalidDataset if there are none, or if the row is plain text.
    """
    if example.kind == "text":
        raise TrainingError(
            "InvalidDataset",
            f"{example.origin}: is plain text, which has no prompt to answer; give a row with a prompt and an answer, "
            'such as {"prompt", "completion"}',
        )
    if column:
        row = rows.rows.read(rows.indices[index])
        value = row.get(column) if isinstance(row, dict) else None
        fix = f"add the column {column}, or correct evaluation.answerColumn"
    elif example.columns is not None:
        value, fix = answer_of(example.columns, None), f"add a column {ANSWERS[0]}, or set evaluation.answerColumn"
    else:
        last = example.messages[-1]
        value = last.text if last.role == "assistant" else None
        fix = "give a row that ends with an answer, or set evaluation.answerColumn"
    listed = [as_text(one) for one in (value if isinstance(value, list) else [value]) if one not in (None, "")]
    if not listed:
        raise TrainingError("InvalidDataset", f"{example.origin}: has no expected answer to compare with; {fix}")
    return listed


def _up_to_last_answer(example: Example) -> Example:
    """The row with its last answer as one that carries loss, by which the renderer finds where it begins."""
    last = example.messages[-1]
    answer = dataclasses.replace(last, details=dataclasses.replace(last.details, trained=True))
    return dataclasses.replace(example, messages=(*example.messages[:-1], answer), rejected=())
