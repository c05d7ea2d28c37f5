"""The defaults of a job, read from the declarations of the fields, and ``effective_spec``, which applies all of them.

The operator shows the result in ``status.effectiveSpec``. The command line, the API and the web form show the same
values before a job is submitted.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from model_garden.contract.adapter_rules import OF_ADAPTERS, needs_unquantized, only_on_transformers
from model_garden.contract.fields import spec_fields
from model_garden.contract.pod import GPU_RESOURCE, gpu_amounts
from model_garden.contract.spec import EffectiveSpec, TrainingJobSpec

_SIZE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)[bB](?![a-zA-Z])")


def billions(base_model: str) -> float | None:
    """Billions of parameters as a model's name states them: ``Qwen2.5-VL-72B-Instruct`` -> 72.0, else None."""
    sizes = _SIZE.findall(base_model.rsplit("/", 1)[-1])
    return float(sizes[0]) if sizes else None


def defaults(
    *,
    vision: bool,
    base_model: str = "",
    gpus: int = 1,
    method: str = "sft",
    full: bool = False,
    continued: bool = False,
    given: Collection[str] = (),
) -> dict[str, Any]:
    """The defaults of a job, in camelCase, as the form and ``GET /defaults`` show them.

    Args:
        vision: whether the job trains a vision-language model.
        base_model: the name of the model; a vision model of 70B and more has other defaults.
        gpus: GPUs per pod; 0 gives the defaults for a CPU.
        method: the training method.
        full: whether all weights are trained, so that there is no adapter.
        continued: whether an adapter is continued, which has settings of its own.
        given: the fields that the job gives. An optional group, such as ``pushToHub``, has defaults only if given.
    """
    large = (billions(base_model) or 0) >= 70
    table: dict[str, Any] = {}
    for field in spec_fields():
        *groups, name = field.dotted.split(".")
        value = field.default and field.default.of(vision=vision, large=large, gpu=gpus > 0, method=method, full=full)
        if (
            value is None
            or ((full or continued) and field.dotted in OF_ADAPTERS)
            or (field.in_optional_group and groups[0] not in given)
        ):
            continue
        place = table
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = value
    return table


def effective_spec(
    spec: TrainingJobSpec, name: str, *, namespace: str = "default", local_gpus: int | None = None
) -> EffectiveSpec:
    """``spec`` with every default applied; values that the user set are unchanged.

    Args:
        spec: a valid spec.
        name: the job's name, for ``outputDir`` and the run of a tracker.
        namespace: the job's namespace, for the project of a tracker.
        local_gpus: GPUs of this machine for a job without a cluster; None for those that ``resources`` requests.
    """
    gpus = spec.gpus if local_gpus is None else local_gpus
    given = spec.to_dict()
    given.pop("isVision", None)
    given.pop("modelType", None)
    if given.get("backend") == "auto":
        del given["backend"]
    table = defaults(
        vision=spec.vision,
        base_model=spec.base_model,
        gpus=gpus,
        method=spec.method or "sft",
        full=spec.adapter == "none",
        continued=spec.adapter_path is not None,
        given=given,
    )
    table["outputDir"] = f"./models/{name}"
    if given.get("saveMethod") == "gguf":
        table["ggufQuantization"] = "q4_k_m"
    if given.get("reportTo"):
        table["tracking"] = {"project": namespace, "runName": name}
    if spec.validation_dataset_path or spec.validation_fraction:
        table = merge(table, {"hyperparameters": {"evalSteps": 100}})
    if only_on_transformers(given):
        table["backend"] = "transformers"
    if needs_unquantized(given):
        table["quantization"] = "none"
    if (start := spec.adapter_path) and "/" not in start:  # the name of a job
        given["adapterPath"] = f"./models/{start}"
    result = merge(table, given)
    if local_gpus is None:
        resources = result.setdefault("resources", {})
        limits = resources.setdefault("limits", {})
        if not gpu_amounts(limits) and spec.gpu_resource:
            limits[spec.gpu_resource] = gpus
    else:
        result.setdefault("resources", {})["limits"] = {GPU_RESOURCE: local_gpus}
    return EffectiveSpec.model_validate(result)


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``base`` with its values replaced by those of ``over``. Nested mappings are merged; no argument is changed."""
    result = dict(base)
    for key, value in over.items():
        mine = result.get(key)
        result[key] = merge(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return result
