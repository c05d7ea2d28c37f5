"""PURE: the model that a job made: where it is, how its answers changed, and the text that uses it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from model_garden.contract.progress import SampleAnswer, SampleEvent, parse_event
from model_garden.contract.rules import CHANGES_WEIGHTS
from model_garden.services import format
from model_garden.services.job_view import is_vision

Object = dict[str, Any]


def output(job: Object) -> dict[str, Any] | None:
    """The model and its scores; None before there is one."""
    made = (job.get("status") or {}).get("output")
    if not made:
        return None
    scored = made.get("samples") or {}
    return {
        "path": made["path"],
        "size": format.size(made.get("sizeBytes")),
        "verified": made.get("verified"),
        "hub": made.get("hubUrl"),
        "steps": made.get("trainedSteps"),
        "loss": format.loss(made.get("finalLoss")),
        "usage": usage(job),
        "samples": [
            (title, scored[key]["rows"], _scores(scored[key]))
            for key, title in (("validation", "validation"), ("train", "training"))
            if scored.get(key)
        ],
    }


def _scores(scored: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """What is scored, and the score before and after training, from 0 to 1."""
    return [
        ("Exact answers", scored["exactMatchBefore"], scored["exactMatchAfter"]),
        ("Similarity", scored["similarityBefore"], scored["similarityAfter"]),
    ]


def answers(lines: Iterable[str]) -> list[SampleAnswer]:
    """The rows that a trainer's log says were answered before and after training; validation rows come first."""
    events = (parse_event(line) for line in lines)
    found = [event.sample for event in events if isinstance(event, SampleEvent)]
    return sorted(found, key=lambda one: one.split != "validation")


def usage(job: Object) -> list[tuple[str, str, str]]:
    """The text that uses the model, for each program that can: an id, a title and the text."""
    status = job["status"]
    made, spec = status["output"], status.get("effectiveSpec") or job["spec"]
    name, base = job["metadata"]["name"], job["spec"]["baseModel"]
    vision = is_vision(job)
    if made.get("ggufPath"):
        return [("llama", "llama.cpp", format.load_hint(made, vision=vision))]
    found = [("transformers", "transformers", _transformers(made, base, vision=vision))]
    merged = made.get("mergedPath")
    if merged:
        found.append(("vllm", "vLLM", f"vllm serve {merged} --served-model-name {name}"))
        claim = (spec.get("storage") or {}).get("modelsClaim") or "model-garden-models"
        found.append(("kserve", "KServe", _kserve(name, claim, merged)))
    elif rank := _served_rank(spec.get("loraConfig") or {}):
        adapter = made.get("adapterPath") or made["path"]
        command = f"vllm serve {base} \\\n  --enable-lora --max-lora-rank {_vllm_rank(rank)} \\\n"
        found.append(("vllm", "vLLM", f"{command}  --lora-modules {name}={adapter}"))
    return found


def _served_rank(lora: Mapping[str, Any]) -> int | None:
    """The rank of the saved adapter; None for one that vLLM does not serve: DoRA, or modules trained whole."""
    if lora.get("useDora") or lora.get("modulesToSave"):
        return None
    rank: int = lora.get("r") or 16
    return 2 * rank if lora.get("initLoraWeights") in CHANGES_WEIGHTS else rank


def _vllm_rank(rank: int) -> int:
    """The next rank that vLLM takes.

    Source: https://docs.vllm.ai/en/stable/features/lora.html
    """
    return next((one for one in (8, 16, 32, 64, 128, 256, 320, 512) if one >= rank), rank)


def _transformers(made: Mapping[str, Any], base: str, *, vision: bool) -> str:
    auto = format.model_class(made, vision=vision)
    processor = "AutoProcessor" if auto == "AutoModelForImageTextToText" else "AutoTokenizer"
    merged, path = made.get("mergedPath"), made.get("adapterPath") or made["path"]
    if merged:
        return "\n".join(
            [
                f"from transformers import {auto}, {processor}",
                "",
                f"model = {auto}.from_pretrained({merged!r})",
                f"processor = {processor}.from_pretrained({merged!r})",
            ]
        )
    return "\n".join(
        [
            "from peft import PeftModel",
            f"from transformers import {auto}, {processor}",
            "",
            f"base = {auto}.from_pretrained({base!r})",
            f"model = PeftModel.from_pretrained(base, {path!r})",
            f"processor = {processor}.from_pretrained({path!r})",
        ]
    )


def _kserve(name: str, claim: str, merged: str) -> str:
    """An InferenceService that serves the merged model from the claim of models.

    Source: https://kserve.github.io/website/docs/model-serving/generative-inference/overview
    """
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
