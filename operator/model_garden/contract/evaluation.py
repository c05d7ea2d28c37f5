"""``spec.evaluation``: the rows that the model answers, at the end and during training, and the rules of the block."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints

from model_garden.contract.declaration import declare
from model_garden.contract.model import ContractModel
from model_garden.contract.options import Text
from model_garden.contract.rule import VISION, Document, Rule, get, has, is_vision

EvaluationMetric = Literal["exact_match", "similarity", "json_fields", "anls", "iou"]
Task = Annotated[str, StringConstraints(pattern=r"^\w[\w.+-]*$", max_length=200)]
_NEEDS_METRICS = ("datasetPath", "datasetSplit", "answerColumn", "maxRows", "maxNewTokens", "everyEvaluations")
_NEEDS_TASKS = ("harnessLimit", "harnessTasksPath")
_MAX_ROWS, _MAX_NEW_TOKENS = 100, 256
_USUAL = {"maxRows": _MAX_ROWS, "maxNewTokens": _MAX_NEW_TOKENS}


class Evaluation(ContractModel):
    """Answers of the trained model to held-out rows and their scores, and tasks of lm-evaluation-harness."""

    metrics: list[EvaluationMetric] | None = declare(
        "How answers are scored: exact_match, similarity, json_fields (fields of JSON answers), anls (short texts of "
        "documents), iou (boxes).",
        shapes_weights=False,
        default_words="no rows are answered",
        min_length=1,
        max_length=5,
    )
    dataset_path: Text | None = declare(
        "Data set to answer, in the formats of datasetPath. It must not hold rows that are trained on.",
        shapes_weights=False,
        default_words="the validation rows",
    )
    dataset_split: Text | None = declare(
        "Split of evaluation.datasetPath.", shapes_weights=False, default_words="train"
    )
    answer_column: Text | None = declare(
        "Column with the expected answer, or with a list of accepted answers.",
        shapes_weights=False,
        default_words="the last answer of the row",
    )
    max_rows: int | None = declare(
        "Most rows to answer, evenly spread over the data set.", _MAX_ROWS, shapes_weights=False, ge=1, le=100_000
    )
    max_new_tokens: int | None = declare(
        "Longest answer in tokens; a longer one is cut.", _MAX_NEW_TOKENS, shapes_weights=False, ge=1, le=131_072
    )
    batch_size: int | None = declare(
        "Rows that are answered at once. It is halved while memory does not suffice.",
        8,
        shapes_weights=False,
        ge=1,
        le=1024,
    )
    compare_base: bool | None = declare(
        "Let the base model answer the rows and do the tasks too, to show what training changed.",
        True,
        shapes_weights=False,
    )
    every_evaluations: int | None = declare(
        "Answer the rows during training too, at every so many evaluations (evalSteps). Off unless given.",
        shapes_weights=False,
        ge=1,
        le=1_000_000,
    )
    harness_tasks: list[Task] | None = declare(
        "Tasks of lm-evaluation-harness that the trained model does at the end, such as hellaswag. Only for text "
        "models.",
        shapes_weights=False,
        default_words="none",
        min_length=1,
        max_length=32,
    )
    harness_limit: int | None = declare(
        "Most rows of each task of harnessTasks.", shapes_weights=False, default_words="all", ge=1, le=1_000_000
    )
    harness_tasks_path: (
        Annotated[str, StringConstraints(pattern=r"^\./data(/[\w-][\w.-]*)+/?$", max_length=1024)] | None
    ) = declare("Folder in ./data with the YAML files of further tasks.", shapes_weights=False)


class EffectiveEvaluation(Evaluation):
    """The block with every default applied."""

    max_rows: int
    max_new_tokens: int
    batch_size: int
    compare_base: bool


def _has_rows(spec: Document) -> bool:
    return "validationDatasetPath" in spec or "validationFraction" in spec


def _needs(needed: str, name: str) -> Rule:
    """A field of the block that needs another one, unless it has its default, as in an effective spec."""
    field, usual = f"evaluation.{name}", _USUAL.get(name)
    return Rule(
        field,
        lambda s: get(s, field) not in (None, usual) and get(s, needed) is None,
        f"!({has(field)}) || {has(needed)}" + ("" if usual is None else f" || self.{field} == {usual}"),
        f"does nothing without {needed}; set that or remove this",
    )


def _each_once(field: str, what: str) -> Rule:
    return Rule(
        field,
        lambda s: len(get(s, field) or ()) > len(set(get(s, field) or ())),
        f"!({has(field)}) || self.{field}.all(one, self.{field}.exists_one(other, other == one))",
        f"names a {what} twice; name each once",
    )


def _is_trained_on(spec: Document) -> bool:
    path = get(spec, "evaluation.datasetPath")
    split = get(spec, "evaluation.datasetSplit") or "train"
    return path is not None and path == spec.get("datasetPath") and split == (spec.get("datasetSplit") or "train")


_METRICS, _TASKS = "evaluation.metrics", "evaluation.harnessTasks"
_PATH, _SPLIT = has("evaluation.datasetPath"), has("evaluation.datasetSplit")

EVALUATION_RULES = (
    Rule(
        "evaluation",
        lambda s: "evaluation" in s and get(s, _METRICS) is None and get(s, _TASKS) is None,
        f"!has(self.evaluation) || {has(_METRICS)} || {has(_TASKS)}",
        "needs metrics, harnessTasks, or both",
    ),
    *(_needs(_METRICS, name) for name in _NEEDS_METRICS),
    *(_needs(_TASKS, name) for name in _NEEDS_TASKS),
    Rule(
        _TASKS,
        lambda s: get(s, _TASKS) is not None and is_vision(s),
        f"!({has(_TASKS)}) || !{VISION}",
        "is for text models: lm-evaluation-harness would show this one no images; remove it, and use metrics",
    ),
    _each_once(_TASKS, "task"),
    Rule(
        "evaluation",
        lambda s: get(s, _METRICS) is not None and get(s, "evaluation.datasetPath") is None and not _has_rows(s),
        f"!({has(_METRICS)}) || {_PATH} || has(self.validationDatasetPath) || has(self.validationFraction)",
        "needs rows that are not trained on; set evaluation.datasetPath, validationDatasetPath or validationFraction",
    ),
    Rule(
        "evaluation.datasetPath",
        _is_trained_on,
        f"!({_PATH}) || self.evaluation.datasetPath != self.datasetPath"
        f" || ({_SPLIT} ? self.evaluation.datasetSplit : 'train')"
        " != (has(self.datasetSplit) ? self.datasetSplit : 'train')",
        "is the data set that is trained on; give another one, or another split of it in evaluation.datasetSplit",
    ),
    Rule(
        "evaluation.datasetSplit",
        lambda s: get(s, "evaluation.datasetSplit") is not None and get(s, "evaluation.datasetPath") is None,
        f"!({_SPLIT}) || {_PATH}",
        "is a split of evaluation.datasetPath; set that or remove this",
    ),
    Rule(
        "evaluation.everyEvaluations",
        lambda s: get(s, "evaluation.everyEvaluations") is not None and not _has_rows(s),
        f"!({has('evaluation.everyEvaluations')}) || has(self.validationDatasetPath) || has(self.validationFraction)",
        "counts evaluations of validation rows; set validationDatasetPath or validationFraction, or remove it",
    ),
    _each_once(_METRICS, "metric"),
)
