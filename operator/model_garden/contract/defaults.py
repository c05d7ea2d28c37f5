"""The one table of defaults, and ``effective_spec``: a spec with every default applied.

The operator shows the result in ``status.effectiveSpec``; the command line, the API and the web form show the same
table before anything is submitted.
"""

from __future__ import annotations

import re
from typing import Any

from model_garden.contract.pod import GPU_RESOURCE
from model_garden.contract.spec import TrainingJobSpec

TEXT: dict[str, Any] = {
    "isVision": False,
    "modelType": "text",
    "datasetSplit": "train",
    "hyperparameters": {
        "learningRate": 2e-4,
        "numEpochs": 3,
        "maxSteps": -1,
        "batchSize": 2,
        "gradientAccumulationSteps": 4,
        "warmupSteps": 0.03,
        "weightDecay": 0.01,
        "lrSchedulerType": "linear",
        "maxSeqLength": 2048,
        "seed": 42,
        "loggingSteps": 1,
        "saveSteps": 100,
        "saveTotalLimit": 2,
        "maxGradNorm": 1.0,
        "packing": False,
    },
    "loraConfig": {
        "r": 16,
        "loraAlpha": 16,
        "loraDropout": 0.0,
        "useRslora": False,
        "finetuneLanguageLayers": True,
        "finetuneAttentionModules": True,
        "finetuneMlpModules": True,
    },
    "trainOn": "responses",
    "selectiveLoss": "none",
    "saveMethod": "lora",
    "preflight": "Enabled",
    "health": {"firstStepSeconds": 3600, "stepSeconds": 1800, "nonFiniteLoss": "Fail"},
    "numNodes": 1,
    "suspend": False,
    "backoffLimit": 3,
}

VISION: dict[str, Any] = {
    "isVision": True,
    "modelType": "vision",
    "hyperparameters": {
        "learningRate": 2e-5,
        "batchSize": 1,
        "gradientAccumulationSteps": 8,
        "lrSchedulerType": "cosine",
        "maxSeqLength": 4096,
    },
    "loraConfig": {"finetuneVisionLayers": False},
    "imageOptions": {"minPixels": 3136, "maxPixels": 1_003_520},
}

VISION_72B: dict[str, Any] = {
    "hyperparameters": {"learningRate": 1e-5, "gradientAccumulationSteps": 16},
    "loraConfig": {"r": 32, "loraAlpha": 32},
}

ON_GPU: dict[str, Any] = {
    "quantization": "4bit",
    "backend": "unsloth",
    "hyperparameters": {"optim": "adamw_8bit", "autoBatchSize": True},
}

ON_CPU: dict[str, Any] = {
    "quantization": "none",
    "backend": "transformers",
    "hyperparameters": {"optim": "adamw_torch", "autoBatchSize": False},
}

_SIZE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)[bB](?![a-zA-Z])")


def billions(base_model: str) -> float | None:
    """Billions of parameters as a model's name states them: ``Qwen2.5-VL-72B-Instruct`` -> 72.0, else None."""
    sizes = _SIZE.findall(base_model.rsplit("/", 1)[-1])
    return float(sizes[0]) if sizes else None


def defaults(*, vision: bool, base_model: str = "", gpus: int = 1) -> dict[str, Any]:
    """The defaults of a job, in camelCase, as the form and ``GET /defaults`` show them.

    Args:
        vision: whether the job trains a vision-language model.
        base_model: its name; a vision model of 70B and more gets gentler values.
        gpus: GPUs a pod trains on; 0 chooses the CPU's values.
    """
    table = TEXT
    if vision:
        table = merge(table, VISION)
        if (billions(base_model) or 0) >= 70:
            table = merge(table, VISION_72B)
    return merge(table, ON_GPU if gpus else ON_CPU)


def effective_spec(spec: TrainingJobSpec, name: str, *, local_gpus: int | None = None) -> TrainingJobSpec:
    """``spec`` with every default applied; what the user set stays as it is.

    Args:
        spec: a valid spec.
        name: the job's name, for ``outputDir``.
        local_gpus: GPUs of this machine when the job runs without a cluster; None takes what ``resources`` asks for.
    """
    gpus = spec.gpus if local_gpus is None else local_gpus
    given = spec.to_dict()
    given.pop("isVision", None)
    given.pop("modelType", None)
    if given.get("backend") == "auto":
        del given["backend"]
    table = merge(
        defaults(vision=spec.vision, base_model=spec.base_model, gpus=gpus), {"outputDir": f"./models/{name}"}
    )
    if given.get("saveMethod") == "gguf":
        table = merge(table, {"ggufQuantization": "q4_k_m"})
    if "pushToHub" in given:
        table = merge(table, {"pushToHub": {"private": True}})
    if spec.validation_dataset_path or spec.validation_fraction:
        table = merge(table, {"hyperparameters": {"evalSteps": 100}})
    result = merge(table, given)
    if local_gpus is None:
        limits = result.setdefault("resources", {}).setdefault("limits", {})
        limits.setdefault(GPU_RESOURCE, gpus)
    else:
        result.setdefault("resources", {})["limits"] = {GPU_RESOURCE: local_gpus}
    return TrainingJobSpec.model_validate(result)


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over`` laid on top, nested mappings merged, neither argument changed."""
    result = dict(base)
    for key, value in over.items():
        mine = result.get(key)
        result[key] = merge(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return result
