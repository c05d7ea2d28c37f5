"""PURE: the text that uses a trained model in transformers, vLLM, KServe, llama.cpp and Ollama."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]

VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The values of vLLM's ``--max-lora-rank``, but for 1.

Source: https://docs.vllm.ai/en/stable/features/lora.html
"""
WHOLE_MODULES = ("classifier", "score")
"""The modules that vLLM accepts in an adapter as whole modules (``PEFTHelper`` of vLLM)."""
_STARTS_FROM_BASE = ("pissa", "olora", "loftq")


@dataclass(frozen=True)
class Use:
    """How one program uses the model.

    Args:
        id: short name of the program.
        title: name of the program.
        text: the command, the code or the manifest; empty if the program cannot use the model.
        note: what to know, or why the program cannot use the model, and the fix.
    """

    id: str
    title: str
    text: str
    note: str = ""


def uses(name: str, spec: Object, made: Object) -> list[Use]:
    """The text for each program that can use a model, and for vLLM also why it cannot.

    Args:
        name: the job's name, by which a server calls the model.
        spec: the effective spec, or what was given of it, in camelCase.
        made: ``status.output`` in camelCase.
    """
    if made.get("ggufPath"):
        return [_llama_cpp(made, vision=is_vision(spec)), _ollama(name, made)]
    found = [Use("transformers", "transformers", _transformers(spec, made))]
    if merged := _whole_model(spec, made):
        found.append(Use("vllm", "vLLM", f"vllm serve {merged} --served-model-name {name}"))
        found.append(Use("kserve", "KServe", _kserve(name, spec, merged)))
        return found
    if problem := not_served_by_vllm(spec, made):
        return [*found, Use("vllm", "vLLM", "", f"vLLM does not serve this adapter: {problem}. {_fix(name, made)}")]
    adapter = made.get("adapterPath") or made["path"]
    text = (
        f"vllm serve {spec['baseModel']} \\\n  --enable-lora --max-lora-rank {_rank_flag(_rank(spec, made))} \\\n"
        f"  --lora-modules {name}={adapter}"
    )
    return [
        *found,
        Use("vllm", "vLLM", text),
        Use("kserve", "KServe", "", f"KServe serves a merged model. {_fix(name, made)}"),
    ]


def not_served_by_vllm(spec: Object, made: Object) -> str | None:
    """Why vLLM would refuse the adapter of a job, or leave out a part of it; None if it serves it whole.

    Source: https://github.com/vllm-project/vllm/blob/main/vllm/lora/peft_helper.py
    """
    lora = spec.get("loraConfig") or {}
    whole = [one for one in lora.get("modulesToSave") or () if one not in WHOLE_MODULES]
    if lora.get("useDora"):
        return "useDora"
    if whole:
        return f"modulesToSave ({', '.join(whole)})"
    if lora.get("finetuneVisionLayers"):
        return "finetuneVisionLayers, since it leaves out the adapter of most vision towers without an error"
    if (rank := _rank(spec, made)) > VLLM_RANKS[-1]:
        return f"its rank {rank} is above {VLLM_RANKS[-1]}"
    return None


def is_vision(spec: Object) -> bool:
    """Whether a spec trains a vision-language model."""
    given = spec.get("isVision")
    return spec.get("modelType") == "vision" if given is None else bool(given)


def model_class(spec: Object, made: Object) -> str:
    """The class of transformers that loads a model: text can be trained on a model that reads images too."""
    return made.get("modelClass") or ("AutoModelForImageTextToText" if is_vision(spec) else "AutoModelForCausalLM")


def _whole_model(spec: Object, made: Object) -> str | None:
    """The folder of a model that needs no base model."""
    if merged := made.get("mergedPath"):
        return str(merged)
    return str(made["path"]) if spec.get("adapter") == "none" else None


def _rank(spec: Object, made: Object) -> int:
    """The rank of the saved adapter; before it is saved, the one that the spec asks for."""
    if saved := made.get("loraRank"):
        return int(saved)
    lora = spec.get("loraConfig") or {}
    doubled = str(lora.get("initLoraWeights") or "").startswith(_STARTS_FROM_BASE)
    return int(lora.get("r") or 16) * (2 if doubled else 1)


def _rank_flag(rank: int) -> int:
    return next(one for one in VLLM_RANKS if one >= rank)


def _fix(name: str, made: Object) -> str:
    """The command that merges a finished adapter: it trains nothing again."""
    return (
        f"Merge it, which trains nothing again: model-garden rerun {name} --set saveMethod=merged_16bit "
        f"--set outputDir={made['path']}"
    )


def _transformers(spec: Object, made: Object) -> str:
    auto = model_class(spec, made)
    processor = "AutoProcessor" if auto == "AutoModelForImageTextToText" else "AutoTokenizer"
    if merged := _whole_model(spec, made):
        lines = [
            f"from transformers import {auto}, {processor}",
            "",
            f"model = {auto}.from_pretrained({merged!r})",
            f"processor = {processor}.from_pretrained({merged!r})",
        ]
        return "\n".join(lines)
    path = made.get("adapterPath") or made["path"]
    lines = [
        "from peft import PeftModel",
        f"from transformers import {auto}, {processor}",
        "",
        f"base = {auto}.from_pretrained({spec['baseModel']!r})",
        f"model = PeftModel.from_pretrained(base, {path!r})",
        f"processor = {processor}.from_pretrained({path!r})",
    ]
    return "\n".join(lines)


def _llama_cpp(made: Object, *, vision: bool) -> Use:
    text = f"llama-cli -m {made['ggufPath']}"
    if vision:
        text = f"llama-mtmd-cli -m {made['ggufPath']} --mmproj {made['path']}/mmproj-*.gguf"
    return Use("llama", "llama.cpp", text)


def _ollama(name: str, made: Object) -> Use:
    """Ollama reads the Modelfile that the export wrote.

    Source: https://docs.ollama.com/modelfile
    """
    return Use("ollama", "Ollama", f"ollama create {name} -f {made['path']}/Modelfile\nollama run {name}")


def _kserve(name: str, spec: Object, merged: str) -> str:
    """An InferenceService that serves the merged model from the claim of models.

    Source: https://kserve.github.io/website/docs/model-serving/generative-inference/overview
    """
    claim = (spec.get("storage") or {}).get("modelsClaim") or "model-garden-models"
    inside = merged.removeprefix("./").removeprefix("models/")
    return f"""apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
spec:
  predictor:
    model:
      modelFormat:
        name: huggingface
      args:
        - --model_name={name}
      storageUri: pvc://{claim}/{inside}
      resources:
        limits:
          nvidia.com/gpu: "1"
"""
