"""bitsandbytes' 4-bit layers on a CPU, in the environment that has them: for tests alone.

python -m tests.trainer.four_bit_on_cpu MODEL FOLDER   prints one line of JSON
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText

from model_garden.contract.defaults import effective_spec
from model_garden.contract.spec import TrainingJobSpec
from model_garden.contract.trainer_config import TrainerConfig
from model_garden_trainer.exports import adapter, merged
from model_garden_trainer.exports.outputs import tensor_dtypes
from model_garden_trainer.models import peft_adapter
from model_garden_trainer.models.backends.transformers import add_lora
from model_garden_trainer.models.base_model import carry_processor_files
from model_garden_trainer.models.quantized import LAYERS, precision, quantization_config


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        answer: torch.Tensor = model.eval()(input_ids=torch.arange(20)[None]).logits.float()
    return answer


def main(model: Path, folder: Path) -> None:
    """Load ``model`` in 4 bit, keep it so in ``folder``, and merge an adapter into what was kept."""
    asked = quantization_config("4bit")
    small = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.bfloat16, quantization_config=asked)
    found: dict[str, Any] = {
        "layers": [name for name, module in small.named_modules() if type(module).__name__ == LAYERS["4bit"]],
        "precision": precision(small),
        "embeddings": str(small.get_input_embeddings().weight.dtype),
    }
    base, output = folder / "base", folder / "output"
    small.save_pretrained(base)
    carry_processor_files(model, base)
    given = {"isVision": True, "baseModel": str(base), "datasetPath": "./d", "quantization": "4bit"}
    spec = effective_spec(TrainingJobSpec.model_validate(given), "job")

    adapted = add_lora(AutoModelForImageTextToText.from_pretrained(base, dtype=torch.bfloat16), spec)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(output)
    merged.save_16bit(TrainerConfig(name="job", spec=spec), base, output, output / "merged")
    again = AutoModelForImageTextToText.from_pretrained(output / "merged", dtype=torch.bfloat16)
    found["dtypes"] = sorted(tensor_dtypes(output / "merged"))
    expected = logits(adapted)
    found["off"] = float((logits(again) - expected).abs().max())
    with adapted.disable_adapter():
        found["learned"] = float((logits(adapted) - expected).abs().max())
    found["loftq"] = loftq(model, given, folder / "loftq")
    print(json.dumps(found), flush=True)


def loftq(model: Path, given: dict[str, Any], output: Path) -> dict[str, float]:
    """How far 4-bit weights, without and with adapters that start by LoftQ, are from ``model``; how far the saved
    adapter is, on ``model``, from what was learned; and how much that is."""
    lora = {"initLoraWeights": "loftq", "r": 8, "loraAlpha": 16}
    spec = effective_spec(TrainingJobSpec.model_validate(given | {"baseModel": str(model), "loraConfig": lora}), "job")
    original = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32)
    asked = quantization_config("4bit")
    adapted = add_lora(
        AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32, quantization_config=asked), spec
    )
    true, started = logits(original), logits(adapted)
    with adapted.disable_adapter():
        rounded = logits(adapted)
    start = peft_adapter.initial(adapted, spec.lora_config)
    learned = {}
    for name, layer in adapted.get_base_model().named_modules():
        if hasattr(layer, "lora_B"):
            before = layer.get_delta_weight("default")
            torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.1)
            learned[name] = layer.get_delta_weight("default") - before
    output.mkdir()
    adapter.save(adapted, start, TrainerConfig(name="job", spec=spec), model, output)
    loaded = peft_adapter.load(original, output)
    gave = logits(loaded)
    plain = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32)
    for name, change in learned.items():
        plain.get_submodule(name).weight.data += change
    return {
        "rounded": float((rounded - true).norm()),
        "started": float((started - true).norm()),
        "off": float((gave - logits(plain)).abs().max()),
        "learned": float((gave - true).abs().max()),
        "rank": loaded.peft_config["default"].r,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
