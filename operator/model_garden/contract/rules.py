"""Rules on several fields of the spec, each as Python and as CEL for the API server.

Both read the spec as in YAML: in camelCase, without fields that were not given. ``tests/contract/cases.py`` tests each
rule in both forms. To add a rule, add a ``Rule`` to ``RULES`` and a case to that file.
"""

from __future__ import annotations

import re

from model_garden.contract import addresses
from model_garden.contract.adapter_rules import ADAPTER_RULES
from model_garden.contract.evaluation import EVALUATION_RULES
from model_garden.contract.gpu_rules import GPU_RULES, WITHOUT_GPU, without_gpu
from model_garden.contract.method_rules import METHOD_RULES
from model_garden.contract.pod_rules import POD_RULES
from model_garden.contract.rule import VISION, Document, Rule, get, has, is_vision, method_of


def problems(spec: Document) -> list[str]:
    """The message of every rule that ``spec`` breaks."""
    return [rule.problem(spec) for rule in RULES if rule.broken(spec)]


def problem_of_columns(columns: Document, method: str | None) -> str | None:
    """What is wrong with a ``columnMapping`` for rows of a method, without the name of the field; None if nothing."""
    spec = {"columnMapping": columns} | ({"method": method} if method else {})
    wrong = (rule for rule in RULES if rule.field.startswith("columnMapping") and rule.broken(spec))
    return next((rule.message for rule in wrong), None)


def _reads_rows(columns: Document, method: str) -> bool:
    if "messages" in columns:
        return not columns.keys() & {"prompt", "response", "chosen", "rejected"}
    if "prompt" not in columns or columns.keys() >= {"chosen", "rejected"}:
        return "prompt" in columns and "response" not in columns
    return "response" in columns or method == "grpo"


def _validated(spec: Document) -> bool:
    return "validationDatasetPath" in spec or "validationFraction" in spec


def _address(field: str) -> Rule:
    """An address of remote storage in a field has a form that can be read."""

    def broken(spec: Document) -> bool:
        value = str(get(spec, field) or "")
        return "://" in value and not value.startswith(addresses.HUB_DATASET) and not addresses.is_readable(value)

    value = f"self.{field}"
    return Rule(
        field,
        broken,
        f"!({has(field)}) || !{value}.contains('://') || {value}.startsWith('{addresses.HUB_DATASET}')"
        f" || ({value}.matches('^{addresses.SOURCE}$') && !{value}.matches('/[.][.]?(/|$)'))",
        addresses.RULE,
    )


def _servers(spec: Document) -> int:
    return len(set(spec.get("reportTo") or ()) - {"tensorboard"})


_VALIDATION = "(^|[+ ])(validation|all)($|[+ [])"
"""Finds the split ``validation`` in a split: one of the Hub's may be several, such as ``train+validation[:90%]``."""
_VALIDATED = "(has(self.validationDatasetPath) || has(self.validationFraction))"

RULES = (
    *ADAPTER_RULES,
    *GPU_RULES,
    *POD_RULES,
    *map(
        _address,
        ("datasetPath", "validationDatasetPath", "evaluation.datasetPath", "baseModel", "adapterPath"),
    ),
    Rule(
        "pushTo",
        lambda s: addresses.has_dots(s.get("pushTo", "")),
        "!has(self.pushTo) || !self.pushTo.matches('/[.][.]?(/|$)')",
        "has a part . or ..; write the prefix without them",
    ),
    Rule(
        "modelType",
        lambda s: "isVision" in s and "modelType" in s and s["isVision"] != (s["modelType"] == "vision"),
        "!has(self.isVision) || !has(self.modelType) || (self.modelType == 'vision') == self.isVision",
        "contradicts isVision; give one of them",
    ),
    Rule(
        "validationFraction",
        lambda s: "validationDatasetPath" in s and "validationFraction" in s,
        "!(has(self.validationDatasetPath) && has(self.validationFraction))",
        "contradicts validationDatasetPath; give one of them",
    ),
    Rule(
        "validationDatasetPath",
        lambda s: (
            s.get("validationDatasetPath") == s.get("datasetPath")
            and re.search(_VALIDATION, s.get("datasetSplit", "")) is not None
        ),
        "!has(self.validationDatasetPath) || !has(self.datasetSplit) || self.validationDatasetPath != self.datasetPath"
        f" || !self.datasetSplit.matches('{_VALIDATION}')",
        "is the data set of datasetPath, so its split validation is evaluated on, which datasetSplit trains on; set "
        "another datasetSplit, or give another data set",
    ),
    Rule(
        "hyperparameters.earlyStoppingPatience",
        lambda s: get(s, "hyperparameters.earlyStoppingPatience") is not None and not _validated(s),
        f"!({has('hyperparameters.earlyStoppingPatience')}) || {_VALIDATED}",
        "needs validation rows; set validationDatasetPath or validationFraction",
    ),
    Rule(
        "hyperparameters.evalSteps",
        lambda s: get(s, "hyperparameters.evalSteps") is not None and not _validated(s),
        f"!({has('hyperparameters.evalSteps')}) || {_VALIDATED}",
        "needs validation rows; set validationDatasetPath or validationFraction",
    ),
    Rule(
        "columnMapping",
        lambda s: "columnMapping" in s and not _reads_rows(s["columnMapping"], method_of(s)),
        "!has(self.columnMapping) || (has(self.columnMapping.messages)"
        " ? !has(self.columnMapping.prompt) && !has(self.columnMapping.response)"
        " && !has(self.columnMapping.chosen) && !has(self.columnMapping.rejected)"
        " : has(self.columnMapping.prompt) && (has(self.columnMapping.chosen) && has(self.columnMapping.rejected)"
        " ? !has(self.columnMapping.response)"
        " : has(self.columnMapping.response) || (has(self.method) && self.method == 'grpo')))",
        "needs either messages; or prompt and response (prompt alone for method: grpo); or prompt, chosen and rejected",
    ),
    Rule(
        "columnMapping.images",
        lambda s: get(s, "columnMapping.image") is not None and get(s, "columnMapping.images") is not None,
        f"!({has('columnMapping.image')} && {has('columnMapping.images')})",
        "is the list of images, and columnMapping.image is given too; keep one of them",
    ),
    Rule(
        "fetchPictures",
        lambda s: s.get("fetchPictures") is True and not is_vision(s),
        f"!has(self.fetchPictures) || !self.fetchPictures || {VISION}",
        "is only for a vision model; set isVision: true or remove it",
    ),
    Rule(
        "imageOptions",
        lambda s: "imageOptions" in s and not is_vision(s),
        f"!has(self.imageOptions) || {VISION}",
        "is only for a vision model; set isVision: true or remove it",
    ),
    Rule(
        "imageOptions.minPixels",
        lambda s: (get(s, "imageOptions.minPixels") or 0) > (get(s, "imageOptions.maxPixels") or float("inf")),
        f"!({has('imageOptions.minPixels')} && {has('imageOptions.maxPixels')})"
        " || self.imageOptions.minPixels <= self.imageOptions.maxPixels",
        "is above maxPixels; lower it or raise maxPixels",
    ),
    Rule(
        "ggufQuantization",
        lambda s: "ggufQuantization" in s and s.get("saveMethod") != "gguf",
        "!has(self.ggufQuantization) || (has(self.saveMethod) && self.saveMethod == 'gguf')",
        "is only for saveMethod: gguf; set that or remove it",
    ),
    Rule(
        "loraConfig.finetuneVisionLayers",
        lambda s: get(s, "loraConfig.finetuneVisionLayers") is True and not is_vision(s),
        f"!({has('loraConfig.finetuneVisionLayers')}) || !self.loraConfig.finetuneVisionLayers || {VISION}",
        "is only for a vision model; set isVision: true or remove it",
    ),
    Rule(
        "loraConfig.finetuneLanguageLayers",
        lambda s: (
            get(s, "loraConfig.finetuneLanguageLayers") is False
            and get(s, "loraConfig.finetuneVisionLayers") is not True
        ),
        f"!({has('loraConfig.finetuneLanguageLayers')}) || self.loraConfig.finetuneLanguageLayers"
        f" || ({has('loraConfig.finetuneVisionLayers')} && self.loraConfig.finetuneVisionLayers)",
        "leaves nothing to train; set finetuneVisionLayers: true or remove it",
    ),
    Rule(
        "loraConfig.finetuneMlpModules",
        lambda s: (
            get(s, "loraConfig.finetuneAttentionModules") is False and get(s, "loraConfig.finetuneMlpModules") is False
        ),
        f"!({has('loraConfig.finetuneAttentionModules')} && {has('loraConfig.finetuneMlpModules')})"
        " || self.loraConfig.finetuneAttentionModules || self.loraConfig.finetuneMlpModules",
        "with finetuneAttentionModules: false leaves nothing to train; set one of them to true",
    ),
    Rule(
        "pushToHub",
        lambda s: "pushToHub" in s and "hubTokenSecret" not in s,
        "!has(self.pushToHub) || has(self.hubTokenSecret)",
        "needs hubTokenSecret, the Secret that holds a token with write access",
    ),
    Rule(
        "tracking",
        lambda s: "tracking" in s and "reportTo" not in s,
        "!has(self.tracking) || has(self.reportTo)",
        "needs reportTo, the list of trackers; set it or remove tracking",
    ),
    Rule(
        "reportTo",
        lambda s: len(s.get("reportTo") or ()) > len(set(s.get("reportTo") or ())),
        "!has(self.reportTo) || self.reportTo.all(one, self.reportTo.exists_one(other, other == one))",
        "names a tracker twice; name each once",
    ),
    Rule(
        "tracking.uri",
        lambda s: get(s, "tracking.uri") is not None and _servers(s) != 1,
        f"!({has('tracking.uri')}) || !has(self.reportTo)"
        " || self.reportTo.filter(one, one != 'tensorboard').size() == 1",
        "is the server of one tracker; name one of mlflow, wandb and trackio in reportTo, or set MLFLOW_TRACKING_URI, "
        "WANDB_BASE_URL or TRACKIO_SERVER_URL in the Secret of tracking.secret",
    ),
    Rule(
        "backend",
        lambda s: s.get("backend") == "unsloth" and without_gpu(s),
        f"!has(self.backend) || self.backend != 'unsloth' || !{WITHOUT_GPU}",
        "needs a GPU; request one in resources.limits or use backend: transformers",
    ),
    Rule(
        "quantization",
        lambda s: s.get("quantization") in ("4bit", "8bit") and without_gpu(s),
        f"!has(self.quantization) || !(self.quantization in ['4bit', '8bit']) || !{WITHOUT_GPU}",
        "needs a GPU; request one in resources.limits or use quantization: none",
    ),
    Rule(
        "selectiveLoss",
        lambda s: s.get("trainOn") == "all" and s.get("selectiveLoss") not in (None, "none"),
        "!has(self.selectiveLoss) || self.selectiveLoss == 'none' || !has(self.trainOn) || self.trainOn != 'all'",
        "works on answers only; use trainOn: responses or remove it",
    ),
    *METHOD_RULES,
    *EVALUATION_RULES,
    Rule(
        "hyperparameters.maxSteps",
        lambda s: get(s, "hyperparameters.maxSteps") == 0,
        f"!({has('hyperparameters.maxSteps')}) || self.hyperparameters.maxSteps != 0",
        "would train nothing; use -1 to train for numEpochs, or a positive number",
    ),
)
