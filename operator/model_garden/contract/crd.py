"""The CustomResourceDefinition, generated from the models.

``make generate`` writes it to ``manifests/crd.yaml`` and into the chart. Constraints of a field become OpenAPI, and
rules on several fields (``rules.py``) become CEL, so that ``kubectl apply`` refuses what the operator refuses. The
schema of the spec holds no defaults, since the operator applies them.
Format: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

from typing import Any

from model_garden.contract.names import GROUP, KIND, PLURAL, VERSION
from model_garden.contract.rule import has
from model_garden.contract.rules import RULES
from model_garden.contract.spec import TrainingJobSpec
from model_garden.contract.status import TrainingJobStatus

Schema = dict[str, Any]

NOT_OBSERVED = -1
"""The observed generation of a TrainingJob that the operator has not read; kstatus shows it as in progress."""

MUTABLE = ("suspend", "ttlSecondsAfterFinished")
IMMUTABLE_MESSAGE = "field is immutable; give the changed job another metadata.name"  # Flux looks for "is immutable"

_DROPPED = ("title", "default", "discriminator", "declaration")
_PATHS = ("datasetPath", "validationDatasetPath", "evaluation.datasetPath", "outputDir", "baseModel")
_LEAVES = "self.{0}.matches('^(/|~|[.][.](/|$)|[.]/[.][.](/|$))') && !self.{0}.startsWith('/workspace/')"

COLUMNS = [
    ("Phase", "string", ".status.phase", 0),
    ("Progress", "number", ".status.progress.percent", 0),
    ("Loss", "number", ".status.progress.loss", 0),
    ("ETA", "string", ".status.progress.estimatedCompletionTime", 0),
    ("Model", "string", ".spec.baseModel", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Queue", "string", ".status.queue.name", 1),
    ("Place", "integer", ".status.queue.position", 1),
    ("Step", "integer", ".status.progress.step", 1),
    ("Output", "string", ".status.output.path", 1),
]


def custom_resource_definition() -> Schema:
    """The whole CRD as plain values."""
    spec = structural(TrainingJobSpec.model_json_schema(by_alias=True))
    spec["description"] = "What to train, on what, and how. Defaults are shown in status.effectiveSpec."
    spec["x-kubernetes-validations"] = _rules(list(spec["properties"]))
    status = structural(TrainingJobStatus.model_json_schema(by_alias=True))
    status["description"] = "Written by the operator."
    status["default"] = {"observedGeneration": NOT_OBSERVED}
    status["properties"]["conditions"] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    schema = {
        "type": "object",
        "description": "A TrainingJob fine-tunes a text or vision-language model.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {"name": name, "type": kind, "jsonPath": path} | ({"priority": priority} if priority else {})
            for name, kind, path, priority in COLUMNS
        ],
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        # Uninstalling the chart must not delete every job.
        "metadata": {"name": f"{PLURAL}.{GROUP}", "annotations": {"helm.sh/resource-policy": "keep"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["tj"],
                "categories": ["all", "training"],
            },
            "versions": [version],
        },
    }


def _rules(fields: list[str]) -> list[Schema]:
    immutable = [
        {
            "rule": f"has(self.{f}) == has(oldSelf.{f}) && (!has(self.{f}) || self.{f} == oldSelf.{f})",
            "message": IMMUTABLE_MESSAGE,
            "fieldPath": f".{f}",
        }
        for f in fields
        if f not in MUTABLE
    ]
    crossing = [{"rule": rule.cel, "message": rule.message, "fieldPath": f".{rule.field}"} for rule in RULES]
    below = [
        {
            "rule": f"!({has(f)}) || !({_LEAVES.format(f)})",
            "message": "leaves the workspace; give a path below it, such as ./data/… or ./models/…",
            "fieldPath": f".{f}",
        }
        for f in _PATHS
    ]
    return crossing + below + immutable


def structural(schema: Schema) -> Schema:
    """A pydantic JSON schema as the structural schema of a CRD.

    Raises:
        ValueError: for a union that no structural schema can express.
    """
    return _convert(schema, schema.get("$defs", {}))


def _convert(node: Schema, defs: dict[str, Schema]) -> Schema:
    if "$ref" in node:
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return _convert(defs[node["$ref"].rsplit("/", 1)[-1]] | rest, defs)
    if "anyOf" in node:
        return _convert(_without_null(node), defs)
    result: Schema = {}
    for key, value in node.items():
        if key in _DROPPED or key == "$defs":
            continue
        if key == "properties":
            result[key] = {name: _convert(child, defs) for name, child in value.items()}
        elif key == "items":
            result[key] = _convert(value, defs)
        elif key == "additionalProperties":
            result |= _additional(value, defs)
        elif key in ("exclusiveMinimum", "exclusiveMaximum"):
            result[key.removeprefix("exclusive").lower()] = value
            result[key] = True
        elif key == "const":
            result["enum"] = [value]
        elif key == "description":
            result[key] = " ".join(str(value).split())
        else:
            result[key] = value
    return result


def _without_null(node: Schema) -> Schema:
    options = [option for option in node["anyOf"] if option.get("type") != "null"]
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    if len(options) == 1:
        only: Schema = options[0]
        return only | rest
    if {option.get("type") for option in options} == {"integer", "string"}:
        return {"x-kubernetes-int-or-string": True} | {k: v for k, v in rest.items() if k == "description"}
    raise ValueError(f"a structural schema cannot express {node['anyOf']}")


def _additional(value: bool | Schema, defs: dict[str, Schema]) -> Schema:
    if value is False:
        return {}
    if value is True:
        return {"x-kubernetes-preserve-unknown-fields": True}
    return {"additionalProperties": _convert(value, defs)}
