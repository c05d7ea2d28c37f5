"""The text that uses a trained model, for each kind of output."""

from __future__ import annotations

from typing import Any

import pytest

from model_garden.serving import Use, uses

ADAPTER = {"path": "./models/receipts", "adapterPath": "./models/receipts"}


def found(made: dict[str, Any] | None = None, **spec: Any) -> dict[str, Use]:
    return {one.id: one for one in uses("receipts", {"baseModel": "org/model"} | spec, made or ADAPTER)}


def test_an_adapter_is_served_on_its_base_model() -> None:
    made = found(loraConfig={"r": 24})
    assert made["vllm"].text == (
        "vllm serve org/model \\\n  --enable-lora --max-lora-rank 32 \\\n  --lora-modules receipts=./models/receipts"
    )
    assert "PeftModel.from_pretrained(base, './models/receipts')" in made["transformers"].text
    assert made["kserve"].text == "" and "saveMethod=merged_16bit" in made["kserve"].note


def test_an_adapter_of_twice_the_rank_gets_the_flag_for_it() -> None:
    assert "--max-lora-rank 64" in found(loraConfig={"r": 24, "initLoraWeights": "pissa"})["vllm"].text
    assert "--max-lora-rank 64" in found(loraConfig={"r": 24, "initLoraWeights": "loftq"})["vllm"].text


def test_the_rank_that_was_saved_counts_since_an_adapter_to_start_from_has_its_own() -> None:
    assert "--max-lora-rank 64" in found(ADAPTER | {"loraRank": 64}, adapterPath="./models/first")["vllm"].text


@pytest.mark.parametrize(
    ("lora", "why"),
    [
        ({"useDora": True}, "useDora"),
        ({"modulesToSave": ["lm_head"]}, "modulesToSave (lm_head)"),
        ({"finetuneVisionLayers": True}, "finetuneVisionLayers"),
        ({"r": 1024}, "rank 1024 is above 512"),
    ],
)
def test_an_adapter_that_vllm_does_not_serve_is_told_with_the_fix(lora: dict[str, Any], why: str) -> None:
    use = found(loraConfig=lora)["vllm"]
    assert use.text == "" and why in use.note
    assert use.note.endswith(
        "model-garden rerun receipts --set saveMethod=merged_16bit --set outputDir=./models/receipts"
    )


def test_a_merged_model_is_served_alone() -> None:
    made = found(ADAPTER | {"mergedPath": "./models/receipts/merged"}, storage={"modelsClaim": "mine"})
    assert made["vllm"].text == "vllm serve ./models/receipts/merged --served-model-name receipts"
    assert "storageUri: pvc://mine/receipts/merged" in made["kserve"].text
    assert "peft" not in made["transformers"].text


def test_a_fully_tuned_model_is_served_alone() -> None:
    made = found({"path": "./models/receipts"}, adapter="none")
    assert made["vllm"].text.startswith("vllm serve ./models/receipts --served")


def test_a_gguf_file_is_for_llama_cpp_and_ollama() -> None:
    made = found(ADAPTER | {"ggufPath": "./models/receipts/receipts-q4_k_m.gguf"}, isVision=True)
    assert "--mmproj ./models/receipts/mmproj-*.gguf" in made["llama"].text
    assert made["ollama"].text.startswith("ollama create receipts -f ./models/receipts/Modelfile")
