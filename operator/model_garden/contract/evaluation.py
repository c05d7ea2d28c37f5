"""``spec.evaluation``: the rows that the model answers, at the end and during training, and the rules of the block."""

from __future__ import annotations

from typing import Literal

from model_garden.contract.declaration import declare
from model_garden.contract.model import ContractModel
from model_garden.contract.options import Text
from model_garden.contract.rule import Document, Rule, get, has

EvaluationMetric = Literal["exact_match", "similarity", "json_fields", "anls", "iou"]


class Evaluation(ContractModel):
    """Answers that the trained model writes to held-out rows after training, and how they are scored."""

    metrics: list[EvaluationMetric] = declare(
        "How answers are scored: exact_match, similarity, json_fields (fields of JSON answers), anls (short texts of "
        "documents), iou (boxes).",
        shapes_weights=False,
        required=True,
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
        "Most rows to answer, evenly spread over the data set.", 100, shapes_weights=False, ge=1, le=100_000
    )
    max_new_tokens: int | None = declare(
        "Longest answer in tokens; a longer one is cut.", 256, shapes_weights=False, ge=1, le=131_072
    )
    batch_size: int | None = declare(
        "Rows that are answered at once. It is halved while memory does not suffice.",
        8,
        shapes_weights=False,
        ge=1,
        le=1024,
    )
    compare_base: bool | None = declare(
        "Let the base model answer the rows too, to show what training changed.", True, shapes_weights=False
    )
    every_evaluations: int | None = declare(
        "Answer the rows during training too, at every so many evaluations (evalSteps). Off unless given.",
        shapes_weights=False,
        ge=1,
        le=1_000_000,
    )


class EffectiveEvaluation(Evaluation):
    """The block with every default applied."""

    max_rows: int
    max_new_tokens: int
    batch_size: int
    compare_base: bool


def _has_rows(spec: Document) -> bool:
    return "validationDatasetPath" in spec or "validationFraction" in spec


def _is_trained_on(spec: Document) -> bool:
    path = get(spec, "evaluation.datasetPath")
    split = get(spec, "evaluation.datasetSplit") or "train"
    return path is not None and path == spec.get("datasetPath") and split == (spec.get("datasetSplit") or "train")


_PATH, _SPLIT = has("evaluation.datasetPath"), has("evaluation.datasetSplit")

EVALUATION_RULES = (
    Rule(
        "evaluation",
        lambda s: "evaluation" in s and get(s, "evaluation.datasetPath") is None and not _has_rows(s),
        f"!has(self.evaluation) || {_PATH} || has(self.validationDatasetPath) || has(self.validationFraction)",
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
    Rule(
        "evaluation.metrics",
        lambda s: len(get(s, "evaluation.metrics") or ()) > len(set(get(s, "evaluation.metrics") or ())),
        "!has(self.evaluation) || self.evaluation.metrics.all(one,"
        " self.evaluation.metrics.exists_one(other, other == one))",
        "names a metric twice; name each once",
    ),
)
