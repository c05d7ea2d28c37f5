"""The rules on adapters: which settings contradict each other, and which decide the backend and the quantization."""

from __future__ import annotations

from model_garden.contract.rule import Document, Rule, get, has

CHANGES_WEIGHTS = ("olora", "pissa", "pissa_niter_4", "pissa_niter_16")
"""Values of ``initLoraWeights`` that take the adapter's first weights out of the base model's."""
DOUBLES_RANK = (*CHANGES_WEIGHTS, "loftq")
"""Values of ``initLoraWeights`` whose adapters change the model before training, and are saved with twice the rank."""
OF_ADAPTERS = tuple(
    f"loraConfig.{name}"
    for name in (
        "r", "loraAlpha", "loraDropout", "targetModules", "useRslora", "useDora", "initLoraWeights", "loraplusLrRatio",
        "modulesToSave", "finetuneAttentionModules", "finetuneMlpModules",
    )
)  # fmt: skip
"""Fields that mean nothing where all weights are trained."""
_SIDES: dict[str, str | bool] = {
    "loraConfig.initLoraWeights": "default",
    "loraConfig.finetuneVisionLayers": False,
    "loraConfig.finetuneLanguageLayers": True,
    "loraConfig.finetuneAttentionModules": True,
    "loraConfig.finetuneMlpModules": True,
}
"""Fields that choose what a fresh adapter is, with their defaults."""
_FULL = "has(self.adapter) && self.adapter == 'none'"
_WITH_REFERENCE = ("dpo", "kto", "grpo")
"""Methods that compare the trained model with the base model."""
_INIT = "loraConfig.initLoraWeights"


def only_on_transformers(spec: Document) -> str | None:
    """The first setting of ``spec`` that only the transformers backend supports, as in YAML; None if there is none."""
    settings = {
        "adapter: none": spec.get("adapter") == "none",
        "adapterPath": spec.get("adapterPath") is not None,
        "loraConfig.useDora": get(spec, "loraConfig.useDora") is True,
        "loraConfig.initLoraWeights": get(spec, "loraConfig.initLoraWeights") not in (None, "default"),
        "loraConfig.modulesToSave": get(spec, "loraConfig.modulesToSave") is not None,
    }
    return next((field for field, given in settings.items() if given), None)


def needs_unquantized(spec: Document) -> bool:
    """Whether training changes weights of the base model, which quantized ones cannot be."""
    return _changes_base(spec) or spec.get("adapter") == "none"


def _changes_base(spec: Document) -> bool:
    return get(spec, "loraConfig.initLoraWeights") in CHANGES_WEIGHTS


def _cel(value: str | bool) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value).lower()


ADAPTER_RULES = (
    Rule(
        "backend",
        lambda s: s.get("backend") == "unsloth" and only_on_transformers(s) is not None,
        f"!has(self.backend) || self.backend != 'unsloth' || (!({_FULL}) && !has(self.adapterPath)"
        " && (!has(self.loraConfig)"
        " || !((has(self.loraConfig.useDora) && self.loraConfig.useDora)"
        " || (has(self.loraConfig.initLoraWeights) && self.loraConfig.initLoraWeights != 'default')"
        " || has(self.loraConfig.modulesToSave))))",
        "does not support adapter: none, adapterPath, useDora, initLoraWeights and modulesToSave; use backend: "
        "transformers, or remove them",
    ),
    Rule(
        "loraConfig",
        lambda s: s.get("adapter") == "none" and any(get(s, field) is not None for field in OF_ADAPTERS),
        f"!({_FULL}) || !has(self.loraConfig) || !(" + " || ".join(f"has(self.{field})" for field in OF_ADAPTERS) + ")",
        "with adapter: none has only finetuneVisionLayers and finetuneLanguageLayers; remove its other fields",
    ),
    Rule(
        "quantization",
        lambda s: s.get("quantization") in ("4bit", "8bit") and s.get("adapter") == "none",
        f"!has(self.quantization) || !(self.quantization in ['4bit', '8bit']) || !({_FULL})",
        "cannot be trained whole; use quantization: none or 16bit, or adapter: lora",
    ),
    Rule(
        "adapterPath",
        lambda s: "adapterPath" in s and s.get("adapter") == "none",
        f"!has(self.adapterPath) || !({_FULL})",
        "continues an adapter, and adapter: none trains none; remove one of them",
    ),
    Rule(
        "loraConfig",
        lambda s: "adapterPath" in s and any(get(s, field) not in (None, usual) for field, usual in _SIDES.items()),
        "!has(self.adapterPath) || !has(self.loraConfig) || !("
        + " || ".join(f"(has(self.{field}) && self.{field} != {_cel(usual)})" for field, usual in _SIDES.items())
        + ")",
        "cannot choose layers or an initialization with adapterPath: the adapter has its own; remove initLoraWeights "
        "and the finetune… fields",
    ),
    Rule(
        "saveMethod",
        lambda s: s.get("saveMethod") == "lora" and s.get("adapter") == "none",
        f"!has(self.saveMethod) || self.saveMethod != 'lora' || !({_FULL})",
        "needs an adapter, and adapter: none trains none; use merged_16bit, merged_4bit or gguf",
    ),
    Rule(
        "method",
        lambda s: s.get("method", "sft") != "sft" and s.get("adapter") == "none",
        f"!has(self.method) || self.method == 'sft' || !({_FULL})",
        "trains adapters only; use adapter: lora",
    ),
    Rule(
        "quantization",
        lambda s: s.get("quantization") in ("4bit", "8bit") and _changes_base(s),
        "!has(self.quantization) || !(self.quantization in ['4bit', '8bit'])"
        f" || !({has(_INIT)}) || !(self.{_INIT} in {list(CHANGES_WEIGHTS)})",
        "has no weights from which pissa and olora can start; use quantization: none, or another initLoraWeights",
    ),
    Rule(
        _INIT,
        lambda s: get(s, _INIT) in DOUBLES_RANK and s.get("method", "sft") in _WITH_REFERENCE,
        f"!({has(_INIT)}) || !(self.{_INIT} in {list(DOUBLES_RANK)})"
        f" || !has(self.method) || !(self.method in {list(_WITH_REFERENCE)})",
        "starts from another model than the base model, with which this method compares; use default",
    ),
    Rule(
        _INIT,
        lambda s: get(s, _INIT) == "loftq" and s.get("quantization") != "4bit",
        f"!({has(_INIT)}) || self.{_INIT} != 'loftq' || (has(self.quantization) && self.quantization == '4bit')",
        "starts from what 4-bit rounding takes from the weights; set quantization: 4bit, or use default",
    ),
    Rule(
        _INIT,
        lambda s: get(s, _INIT) == "loftq" and get(s, "loraConfig.useDora") is True,
        f"!({has(_INIT)}) || self.{_INIT} != 'loftq' || !({has('loraConfig.useDora')}) || !self.loraConfig.useDora",
        "is not for DoRA; use default, or remove useDora",
    ),
    Rule(
        "hyperparameters.embeddingLearningRate",
        lambda s: (
            get(s, "hyperparameters.embeddingLearningRate") is not None
            and get(s, "loraConfig.modulesToSave") is None
            and s.get("adapter") != "none"
        ),
        f"!({has('hyperparameters.embeddingLearningRate')}) || ({has('loraConfig.modulesToSave')}) || ({_FULL})",
        "needs embeddings that are trained; set loraConfig.modulesToSave: [embed_tokens, lm_head], or remove it",
    ),
)
