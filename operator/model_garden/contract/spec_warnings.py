"""What a valid spec may lead to, and a person may not expect."""

from __future__ import annotations

from model_garden.contract.spec import EffectiveSpec, TrainingJobSpec


def spec_warnings(spec: TrainingJobSpec | EffectiveSpec) -> list[str]:
    """Sentences with the fix; none for most specs.

    Source: https://github.com/vllm-project/vllm/issues/23796
    """
    lora = spec.lora_config
    if lora and lora.finetune_vision_layers and spec.save_method in (None, "lora"):
        return [
            "spec.loraConfig.finetuneVisionLayers: vLLM may ignore the part of an adapter that is on the vision tower, "
            "and answer otherwise than the trained model does; set saveMethod: merged_16bit to serve a merged model"
        ]
    return []
