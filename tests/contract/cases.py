"""Specs that break one rule each: what is wrong, and the field that every refusal must name."""

from __future__ import annotations

from typing import Any

BASE: dict[str, Any] = {"baseModel": "org/model", "datasetPath": "./data/rows.jsonl"}
MATCH = {"functions": ["exact_match"]}
NO_GPU = {"limits": {"nvidia.com/gpu": 0}}

# (what it is, changes to BASE, the field named, refused by the API server too)
BROKEN: list[tuple[str, dict[str, Any], str, bool]] = [
    ("missing model", {"baseModel": None}, "spec.baseModel", True),
    ("missing data set", {"datasetPath": None}, "spec.datasetPath", True),
    ("empty model", {"baseModel": ""}, "spec.baseModel", True),
    ("unknown field", {"epochs": 3}, "spec.epochs", True),
    ("unknown nested field", {"loraConfig": {"alpha": 3}}, "spec.loraConfig.alpha", True),
    ("wrong type", {"hyperparameters": {"numEpochs": "three"}}, "spec.hyperparameters.numEpochs", True),
    ("a number in quotes", {"hyperparameters": {"learningRate": "2e-5"}}, "spec.hyperparameters.learningRate", True),
    ("yes for true", {"isVision": "yes"}, "spec.isVision", True),
    ("learning rate of zero", {"hyperparameters": {"learningRate": 0}}, "spec.hyperparameters.learningRate", True),
    ("batch of zero", {"hyperparameters": {"batchSize": 0}}, "spec.hyperparameters.batchSize", True),
    ("zero steps", {"hyperparameters": {"maxSteps": 0}}, "spec.hyperparameters", True),
    (
        "unknown scheduler",
        {"hyperparameters": {"lrSchedulerType": "cosin"}},
        "spec.hyperparameters.lrSchedulerType",
        True,
    ),
    ("dropout of one", {"loraConfig": {"loraDropout": 1}}, "spec.loraConfig.loraDropout", True),
    ("unknown quantization", {"quantization": "3bit"}, "spec.quantization", True),
    ("isVision and modelType contradict", {"isVision": True, "modelType": "text"}, "spec.modelType", True),
    (
        "two sources of validation data",
        {"validationDatasetPath": "./v", "validationFraction": 0.1},
        "spec.validationFraction",
        True,
    ),
    (
        "early stopping without validation",
        {"hyperparameters": {"earlyStoppingPatience": 2}},
        "spec.hyperparameters",
        True,
    ),
    ("evaluation without validation", {"hyperparameters": {"evalSteps": 2}}, "spec.hyperparameters", True),
    ("columns without an answer", {"columnMapping": {"prompt": "question"}}, "spec.columnMapping", True),
    ("turns and a prompt", {"columnMapping": {"messages": "chat", "prompt": "q"}}, "spec.columnMapping", True),
    (
        "two columns of images",
        {"columnMapping": {"messages": "chat", "image": "a", "images": "b"}},
        "spec.columnMapping.images",
        True,
    ),
    ("picture bounds for a text model", {"imageOptions": {"maxPixels": 50176}}, "spec.imageOptions", True),
    (
        "bounds crossed",
        {"isVision": True, "imageOptions": {"minPixels": 2000, "maxPixels": 1000}},
        "spec.imageOptions",
        True,
    ),
    ("GGUF type without GGUF", {"ggufQuantization": "q8_0"}, "spec.ggufQuantization", True),
    ("vision layers of a text model", {"loraConfig": {"finetuneVisionLayers": True}}, "spec.loraConfig", True),
    ("no layers", {"loraConfig": {"finetuneLanguageLayers": False}}, "spec.loraConfig", True),
    (
        "no modules",
        {"loraConfig": {"finetuneAttentionModules": False, "finetuneMlpModules": False}},
        "spec.loraConfig",
        True,
    ),
    ("an unknown tracker", {"reportTo": ["comet"]}, "spec.reportTo", True),
    ("a tracker named twice", {"reportTo": ["wandb", "wandb"]}, "spec.reportTo", True),
    ("a project without a tracker", {"tracking": {"project": "vision"}}, "spec.tracking", True),
    (
        "one server for two trackers",
        {"reportTo": ["mlflow", "wandb"], "tracking": {"uri": "http://mlflow:5000"}},
        "spec.tracking",
        True,
    ),
    (
        "a password in the URL of a tracker",
        {"reportTo": ["mlflow"], "tracking": {"uri": "http://me:pass@mlflow:5000"}},
        "spec.tracking.uri",
        True,
    ),
    ("push without a token", {"pushToHub": {"repo": "me/model"}}, "spec.pushToHub", True),
    ("unsloth without a GPU", {"backend": "unsloth", "resources": NO_GPU}, "spec.backend", True),
    ("4-bit without a GPU", {"quantization": "4bit", "resources": NO_GPU}, "spec.quantization", True),
    ("unsloth with DoRA", {"backend": "unsloth", "loraConfig": {"useDora": True}}, "spec.backend", True),
    ("unsloth with PiSSA", {"backend": "unsloth", "loraConfig": {"initLoraWeights": "pissa"}}, "spec.backend", True),
    ("unsloth with a head", {"backend": "unsloth", "loraConfig": {"modulesToSave": ["lm_head"]}}, "spec.backend", True),
    ("4-bit with OLoRA", {"quantization": "4bit", "loraConfig": {"initLoraWeights": "olora"}}, "quantization", True),
    ("PiSSA with DPO", {"method": "dpo", "loraConfig": {"initLoraWeights": "pissa"}}, "initLoraWeights", True),
    ("an adapter's rank without an adapter", {"adapter": "none", "loraConfig": {"r": 8}}, "spec.loraConfig", True),
    ("4-bit weights trained whole", {"adapter": "none", "quantization": "4bit"}, "spec.quantization", True),
    ("an adapter saved without one", {"adapter": "none", "saveMethod": "lora"}, "spec.saveMethod", True),
    ("unsloth without an adapter", {"adapter": "none", "backend": "unsloth"}, "spec.backend", True),
    ("DPO without an adapter", {"adapter": "none", "method": "dpo"}, "spec.method", True),
    ("an adapter continued without one", {"adapter": "none", "adapterPath": "a"}, "spec.adapterPath", True),
    (
        "an initialized adapter initialized",
        {"adapterPath": "a", "loraConfig": {"initLoraWeights": "pissa"}},
        "loraConfig",
        True,
    ),
    ("unsloth with an adapter", {"backend": "unsloth", "adapterPath": "./models/a"}, "spec.backend", True),
    ("an adapter of a bad address", {"adapterPath": "s3://bucket/"}, "spec.adapterPath", True),
    (
        "a rate of embeddings that are not trained",
        {"hyperparameters": {"embeddingLearningRate": 1e-5}},
        "spec.hyperparameters",
        True,
    ),
    ("selective loss on all tokens", {"trainOn": "all", "selectiveLoss": "moderate"}, "spec.selectiveLoss", True),
    ("a block without its method", {"dpo": {"beta": 0.2}}, "spec.dpo", True),
    ("packed preferences", {"method": "dpo", "hyperparameters": {"packing": True}}, "packing", True),
    ("all tokens of preferences", {"method": "dpo", "trainOn": "all"}, "spec.trainOn", True),
    ("selective preferences", {"method": "dpo", "selectiveLoss": "moderate"}, "spec.selectiveLoss", True),
    ("preferences with unsloth", {"method": "dpo", "backend": "unsloth"}, "spec.backend", True),
    ("smoothing of a loss without it", {"method": "dpo", "dpo": {"labelSmoothing": 0.1}}, "labelSmoothing", True),
    ("exo_pair without smoothing", {"method": "dpo", "dpo": {"lossType": "exo_pair"}}, "spec.dpo.lossType", True),
    ("pictures with ORPO", {"method": "orpo", "isVision": True}, "spec.isVision", True),
    ("KTO of one row", {"method": "kto", "hyperparameters": {"batchSize": 1}}, "batchSize", True),
    ("KTO of any batch", {"method": "kto", "hyperparameters": {"autoBatchSize": True}}, "autoBatchSize", True),
    ("a block of another method", {"method": "dpo", "kto": {"beta": 0.2}}, "spec.kto", True),
    ("GRPO without rewards", {"method": "grpo"}, "spec.method", True),
    ("rewards without GRPO", {"rewards": {"functions": ["exact_match"]}}, "spec.rewards", True),
    ("pictures with GRPO", {"method": "grpo", "isVision": True, "rewards": MATCH}, "spec.isVision", True),
    ("an unknown reward", {"method": "grpo", "rewards": {"functions": ["exact"]}}, "rewards.functions", True),
    ("one weight too many", {"method": "grpo", "rewards": MATCH | {"weights": [1.0, 2.0]}}, "rewards.weights", True),
    ("a pattern without regex", {"method": "grpo", "rewards": MATCH | {"pattern": "a"}}, "rewards.pattern", True),
    ("regex without a pattern", {"method": "grpo", "rewards": {"functions": ["regex"]}}, "rewards.functions", True),
    ("rewards outside data", {"method": "grpo", "rewards": MATCH | {"file": "/tmp/a.py"}}, "rewards.file", True),
    ("rewards above data", {"method": "grpo", "rewards": MATCH | {"file": "./data/../a.py"}}, "rewards.file", True),
    ("a claim with a bad name", {"storage": {"dataClaim": "My Claim"}}, "spec.storage.dataClaim", True),
    ("an unknown toleration field", {"podTemplate": {"tolerations": [{"efect": "NoSchedule"}]}}, "efect", True),
    ("neither Hub id nor path", {"baseModel": "org/some model"}, "spec.baseModel", False),
    ("a data set without TLS", {"datasetPath": "http://example.org/rows.jsonl"}, "spec.datasetPath", True),
    ("a password in an address", {"datasetPath": "https://me:pass@example.org/a.jsonl"}, "spec.datasetPath", True),
    ("a signature in an address", {"datasetPath": "https://example.org/a.jsonl?sig=1"}, "spec.datasetPath", True),
    ("a bucket without a key", {"validationDatasetPath": "s3://bucket/"}, "spec.validationDatasetPath", True),
    ("a key that leaves its folder", {"baseModel": "s3://bucket/models/../x"}, "spec.baseModel", True),
    ("a bucket of another vendor", {"baseModel": "az://bucket/models/x"}, "spec.baseModel", True),
    ("an output on a web server", {"pushTo": "https://example.org/models"}, "spec.pushTo", True),
    ("an output that leaves its prefix", {"pushTo": "s3://bucket/models/.."}, "spec.pushTo", True),
    ("an endpoint without scheme", {"storage": {"endpointUrl": "minio:9000"}}, "spec.storage.endpointUrl", True),
    ("half a GPU", {"resources": {"limits": {"nvidia.com/gpu": "500m"}}}, "spec.resources.limits", False),
]

OUTSIDE: list[tuple[str, dict[str, Any], str]] = [
    ("an absolute data set", {"datasetPath": "/etc/passwd"}, "spec.datasetPath"),
    ("a data set above the workspace", {"datasetPath": "../rows.jsonl"}, "spec.datasetPath"),
    ("an output above the workspace", {"outputDir": "./../models"}, "spec.outputDir"),
    ("a model in the home folder", {"baseModel": "~/model"}, "spec.baseModel"),
]


def broken(changes: dict[str, Any]) -> dict[str, Any]:
    """BASE with the changes of one case; None takes a field away."""
    return {key: value for key, value in (BASE | changes).items() if value is not None}
