"""Tiny random models, made on the spot and offline: the demo and the tests train them in place of the real ones.

Each is a real architecture with its real processor, special tokens and chat template, only small (under 2 MB): what
trains, saves and reloads here takes the same code paths as its big sister. The same kind and seed give the same files.

    python -m testing.tiny_models ./models/tiny-vl --kind qwen2_5_vl
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)
from transformers.utils import logging

from model_garden.datasets.samples import text_rows, vision_scenes

Kind = Literal["qwen2_5_vl", "qwen3_vl", "qwen2", "llama"]

QWEN_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
LLAMA_TOKENS = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
LAYERS = 2
HEAD_DIM = 16
MAX_POSITIONS = 8192
READOUT_STD = 0.1
"""Wider than the usual 0.02: adapters of a frozen random model can then move the loss."""


@dataclass(frozen=True)
class Variant:
    """What may differ between tiny models of a kind."""

    hidden: int = 64
    """Width of the language model."""
    merges: int = 120
    """Merges of the tokenizer: the more, the fewer tokens of a text."""
    corpus: tuple[str, ...] = ()
    """Texts that the merges are learned from, beside the sample data."""
    vision_hidden: int = 32
    merge: int = 2
    """Side of the square of patches that become one image token (``qwen2_5_vl``)."""


def make_tiny_model(kind: Kind, folder: str | Path, seed: int = 0, variant: Variant = Variant()) -> Path:
    """Write a tiny random model of ``kind`` with its tokenizer or processor, and return its folder.

    The folder loads with AutoModelForImageTextToText and AutoProcessor (``qwen2_5_vl``, ``qwen3_vl``) or with
    AutoModelForCausalLM and AutoTokenizer (``qwen2``, ``llama``). Weights are float32.

    Raises:
        ValueError: ``kind`` is unknown.
    """
    if kind not in _MAKERS:
        raise ValueError(f"kind: {kind!r} is unknown; one of {', '.join(get_args(Kind))}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, tokenizer_or_processor = _MAKERS[kind](variant)
        widen_readout(model)
    model.save_pretrained(folder)
    tokenizer_or_processor.save_pretrained(folder)
    return folder


def _qwen2_5_vl(variant: Variant) -> tuple[PreTrainedModel, Any]:
    tokenizer = _qwen_tokenizer(variant)
    config = Qwen2_5_VLConfig(
        text_config=_text_config(tokenizer, variant)
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}},
        vision_config=_vision_config(14, variant)
        | {"window_size": 112, "fullatt_block_indexes": [1], "spatial_merge_size": variant.merge},
        **_token_ids(tokenizer),
    )
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(merge_size=variant.merge, min_pixels=3136, max_pixels=12_845_056),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=chat_template("qwen2_5_vl"),
    )
    return ready(Qwen2_5_VLForConditionalGeneration(config), tokenizer), processor


def _qwen3_vl(variant: Variant) -> tuple[PreTrainedModel, Any]:
    tokenizer = _qwen_tokenizer(variant)
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [2, 3, 3], "mrope_interleaved": True}
    config = Qwen3VLConfig(
        text_config=_text_config(tokenizer, variant) | {"head_dim": HEAD_DIM, "rope_parameters": rope},
        vision_config=_vision_config(16, variant) | {"num_position_embeddings": 256, "deepstack_visual_indexes": [0]},
        **_token_ids(tokenizer),
    )
    half = [0.5, 0.5, 0.5]
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(
            patch_size=16, image_mean=half, image_std=half, min_pixels=65_536, max_pixels=16_777_216
        ),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=chat_template("qwen3_vl"),
    )
    return ready(Qwen3VLForConditionalGeneration(config), tokenizer), processor


def _qwen2(variant: Variant) -> tuple[PreTrainedModel, Any]:
    tokenizer = _qwen_tokenizer(variant)
    tokenizer.chat_template = chat_template("qwen2_5")
    return ready(Qwen2ForCausalLM(Qwen2Config(**_text_config(tokenizer, variant))), tokenizer), tokenizer


def _llama(variant: Variant) -> tuple[PreTrainedModel, Any]:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level_bpe(LLAMA_TOKENS, variant),
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        pad_token="<|end_of_text|>",
        additional_special_tokens=["<|start_header_id|>", "<|end_header_id|>"],
        model_max_length=MAX_POSITIONS,
    )
    tokenizer.chat_template = chat_template("llama3")
    return ready(LlamaForCausalLM(LlamaConfig(**_text_config(tokenizer, variant))), tokenizer), tokenizer


_MAKERS: dict[str, Callable[[Variant], tuple[PreTrainedModel, Any]]] = {
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "qwen2": _qwen2,
    "llama": _llama,
}


def _text_config(tokenizer: Any, variant: Variant) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": variant.hidden,
        "intermediate_size": 2 * variant.hidden,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": variant.hidden // HEAD_DIM,
        "num_key_value_heads": variant.hidden // HEAD_DIM // 2,
        "max_position_embeddings": MAX_POSITIONS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
    }


def _vision_config(patch_size: int, variant: Variant) -> dict[str, Any]:
    return {
        "depth": 2,
        "hidden_size": variant.vision_hidden,
        "intermediate_size": 2 * variant.vision_hidden,
        "num_heads": 2,
        "patch_size": patch_size,
        "out_hidden_size": variant.hidden,
    }


def _token_ids(tokenizer: Any) -> dict[str, Any]:
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    return {key: tokenizer.convert_tokens_to_ids(token) for key, token in names.items()} | {
        "tie_word_embeddings": False
    }


def ready(model: PreTrainedModel, tokenizer: Any) -> PreTrainedModel:
    """The model with a generation config by its tokenizer."""
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model


def widen_readout(model: PreTrainedModel) -> None:
    """Draw embeddings and output layer anew, with ``READOUT_STD``."""
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        torch.nn.init.normal_(layer.weight, std=READOUT_STD)


def _qwen_tokenizer(variant: Variant) -> Qwen2Tokenizer:
    trained = byte_level_bpe(QWEN_TOKENS, variant)
    vocab, merges = _vocab_and_merges(trained)
    tokenizer = Qwen2Tokenizer(
        vocab=vocab,
        merges=merges,
        unk_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=MAX_POSITIONS,
    )
    tokenizer.add_tokens(list(QWEN_TOKENS), special_tokens=True)
    return tokenizer


def _vocab_and_merges(tokenizer: Tokenizer) -> tuple[dict[str, int], list[Any]]:
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def byte_level_bpe(special: tuple[str, ...], variant: Variant) -> Tokenizer:
    """A byte-level BPE of every byte, the variant's merges, learned from the sample data, and ``special``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + variant.merges + len(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=list(special),
        show_progress=False,
    )
    tokenizer.train_from_iterator(chain(_corpus(), variant.corpus), trainer)
    return tokenizer


def _corpus() -> Iterator[str]:
    for scene, (question, answer) in vision_scenes(200):
        yield f"{question} {answer(scene)}"
    for row in text_rows(200):
        yield " ".join(message["content"] for message in row["messages"])


def chat_template(name: str) -> str:
    """The real chat template of a model family, as the installed TRL bundles it."""
    trl = importlib.util.find_spec("trl")
    if trl is None or not trl.submodule_search_locations:
        raise ModuleNotFoundError("trl is not installed; install model-garden[trainer]")
    return (Path(trl.submodule_search_locations[0]) / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def main() -> None:
    """The command line: ``OUT_DIR --kind KIND [--seed N]``."""
    parser = argparse.ArgumentParser(prog="python -m testing.tiny_models", description="Write a tiny random model.")
    parser.add_argument("folder", type=Path, metavar="OUT_DIR")
    parser.add_argument("--kind", required=True, choices=get_args(Kind))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable_progress_bar()  # a megabyte is written before a bar is drawn
    folder = make_tiny_model(arguments.kind, arguments.folder, arguments.seed)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {arguments.kind}, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
