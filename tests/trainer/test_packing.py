"""Packed rows: as few as hold the samples, and to the model the same as separate ones."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
)

from model_garden.datasets.example import Example, ImageRef, Message
from model_garden.datasets.origin import Origin
from model_garden.families import FAMILIES
from model_garden_trainer.batches.collator import IGNORED, Collator
from model_garden_trainer.batches.packing import (
    PackedSteps,
    best_fit,
    lay_out,
    packed_batch,
    refusal,
    spread,
)
from model_garden_trainer.batches.vision_inputs import rope_index
from model_garden_trainer.errors import TrainingError

TOLERANCE = 1e-5
VISION = ("qwen2_5_vl", "qwen3_vl")
TEXT = ("qwen2", "llama")


# How samples are laid in rows


@pytest.mark.parametrize(
    ("lengths", "rows"),
    [
        ([], []),
        ([10], [[0]]),
        ([3, 9, 1, 6], [[1, 2], [3, 0]]),
        ([5, 5, 5], [[0, 1], [2]]),
        ([6, 7, 3, 4], [[1, 2], [0, 3]]),
        ([10, 10], [[0], [1]]),
    ],
)
def test_best_fit_gives_a_sample_to_the_fullest_row_that_takes_it(lengths: list[int], rows: list[list[int]]) -> None:
    assert best_fit(lengths, 10) == rows


@pytest.mark.parametrize(
    ("lengths", "rows"),
    [
        ([3, 9, 1, 6], [[1, 2], [3, 0]]),
        ([5, 5, 5], [[0, 2], [1]]),
        ([7, 1, 1, 1], [[0], [1, 2, 3]]),
    ],
)
def test_spread_gives_a_sample_to_the_emptiest_row(lengths: list[int], rows: list[list[int]]) -> None:
    assert spread(lengths, 2) == rows


def test_a_sample_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="sample 1 has 11 tokens, a row holds 10"):
        best_fit([3, 11], 10)


def laid_out(lengths: list[int], capacity: int, rows: int = 1, hidden_size: int = 2048) -> tuple[list[int], int]:
    """The tokens in each row, and how many micro-batches they make."""
    layout = lay_out(lengths, capacity=capacity, rows=rows, hidden_size=hidden_size)
    return [sum(lengths[i] for i in row) for row in layout.rows], math.ceil(len(layout.rows) / layout.at_once)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (([100] * 8, 4096), ([800], 1)),  # attention costs little: all in one
        (([1000] * 16, 16384), ([2000] * 8, 1)),  # attention over what the mask hides would double the cost
        (([100] * 8, 4096, 1, 64), ([200] * 4, 1)),  # a small model: attention costs most, so short rows
        (([400] + [40] * 10, 4096, 1, 64), ([400, 400], 1)),  # but none shorter than the longest sample
        (([1500] * 8, 2048, 2), ([1500] * 8, 4)),  # long samples: as unpacked
        (([900, 900, 200, 40] * 2, 2048, 1), ([2040, 2040], 2)),  # full rows, one at once
    ],
)
def test_rows_are_few_and_not_dear(case: tuple[Any, ...], expected: tuple[list[int], int]) -> None:
    assert laid_out(*case) == expected


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(50, 120), st.integers(1, 4))
def test_every_sample_is_in_one_row_and_no_micro_batch_takes_more_than_it_may(
    lengths: list[int], capacity: int, rows: int
) -> None:
    layout = lay_out(lengths, capacity=capacity, rows=rows, hidden_size=16)
    width = max(sum(lengths[index] for index in row) for row in layout.rows)
    assert sorted(index for row in layout.rows for index in row) == list(range(len(lengths)))
    assert all(layout.rows)
    assert width <= capacity
    assert width * layout.at_once <= capacity * rows
    fewest = best_fit(lengths, capacity)
    assert math.ceil(len(layout.rows) / layout.at_once) <= math.ceil(len(fewest) / rows)


# What the model sees


def picture(width: int, height: int, colour: str) -> ImageRef:
    content = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(content, "PNG")
    return ImageRef(content.getvalue())


def example(number: int, question: tuple[str | ImageRef, ...], answer: str) -> Example:
    turns = (Message("user", question), Message("assistant", (answer,)))
    return Example("chat", turns, Origin("rows.jsonl", number))


def text_examples() -> list[Example]:
    return [
        example(1, ("What is red?",), "A colour"),
        example(2, ("Sort 3, 1, 2 and say each number once more.",), "1, 2, 3 and again 1, 2, 3; that is all of them."),
        example(3, ("Yes or no",), "no"),
        example(4, ("Say a",), "a"),
    ]


def vision_examples() -> list[Example]:
    return [
        example(1, (picture(140, 84, "red"), "What colour is it?"), "Red"),
        example(2, ("No picture here: what is 1 + 1?",), "It is 2, as far as anybody knows."),
        example(3, (picture(84, 112, "blue"), picture(60, 60, "green"), "And these two?"), "Blue, then green"),
        example(4, ("First ", picture(200, 60, "white"), " then ", picture(56, 140, "black")), "White before black"),
    ]


@pytest.fixture(scope="module")
def loaded(tiny_model: Callable[[str], Path]) -> Callable[[str], tuple[PreTrainedModel, Collator]]:
    def load(kind: str) -> tuple[PreTrainedModel, Collator]:
        vision = kind in VISION
        auto = AutoModelForImageTextToText if vision else AutoModelForCausalLM
        model = auto.from_pretrained(tiny_model(kind), dtype=torch.float32, attn_implementation="sdpa")
        processor = (AutoProcessor if vision else AutoTokenizer).from_pretrained(tiny_model(kind))
        return model, Collator(processor, vision=vision, train_on="responses", max_pixels=40_000)

    return load


def steps_of(encoder: Collator, model: PreTrainedModel, capacity: int, rows: int) -> PackedSteps:
    pad = encoder.tokenizer.pad_token_id
    return PackedSteps(encoder, capacity=capacity, rows=rows, pad_token_id=pad, config=model.config)


def summed_loss(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, int]:
    """The loss summed over trained tokens, their logits (tokens, vocabulary) in order, and how many they are."""
    logits = model(**{key: value for key, value in batch.items() if key != "labels"}, use_cache=False).logits[:, :-1]
    targets = batch["labels"][:, 1:]
    trained = targets != IGNORED
    loss = torch.nn.functional.cross_entropy(logits[trained], targets[trained], reduction="sum")
    return loss, logits[trained], int(trained.sum())


@pytest.mark.known_fault("axolotl-ai-cloud/axolotl#1375", "The rows of a packed sequence attend to each other")
@pytest.mark.known_fault("axolotl-ai-cloud/axolotl#3796", "The rows of a packed sequence attend to each other")
@pytest.mark.known_fault("axolotl-ai-cloud/axolotl#3817", "Packed rows with images see each other")
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "gradient checkpointing"])
@pytest.mark.parametrize("kind", [*TEXT, *VISION])
def test_losses_logits_and_gradients_are_those_of_the_unpacked_run(
    loaded: Callable[[str], tuple[PreTrainedModel, Collator]], kind: str, checkpointing: bool
) -> None:
    model, encoder = loaded(kind)
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    examples = vision_examples() if kind in VISION else text_examples()
    lengths = encoder(examples)["attention_mask"].sum(dim=1).tolist()

    apart = [summed_loss(model, encoder([one])) for one in examples]
    sum(loss for loss, _, _ in apart).backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()

    capacity = max(lengths) + min(lengths)
    step = steps_of(encoder, model, capacity=capacity, rows=1)(examples)
    together = [summed_loss(model, batch) for batch in step["micro_batches"]]
    sum(loss for loss, _, _ in together).backward()

    layout = lay_out(lengths, capacity=capacity, rows=1, hidden_size=64)
    packed_order = [index for row in layout.rows for index in row]
    logits = torch.cat([apart[index][1] for index in packed_order])
    assert sum(len(batch["input_ids"]) for batch in step["micro_batches"]) < len(examples)
    assert step["attention_mask"].sum(dim=1).tolist() == lengths
    assert (step["labels"][:, 1:] != IGNORED).sum() == len(logits)
    assert sum(count for _, _, count in together) == sum(count for _, _, count in apart) == len(logits)
    torch.testing.assert_close(torch.cat([found for _, found, _ in together]), logits, atol=TOLERANCE, rtol=0)
    per_token = [sum(loss.item() for loss, _, _ in found) / len(logits) for found in (apart, together)]
    assert per_token[0] == pytest.approx(per_token[1], abs=TOLERANCE)
    for name, weight in model.named_parameters():
        if name in gradients:
            torch.testing.assert_close(weight.grad, gradients[name], atol=TOLERANCE, rtol=1e-4, msg=name)


@pytest.mark.parametrize("kind", [*TEXT, *VISION])
def test_the_same_tokens_are_trained_in_the_same_order_of_each_sample(
    loaded: Callable[[str], tuple[PreTrainedModel, Collator]], kind: str
) -> None:
    model, encoder = loaded(kind)
    examples = vision_examples() if kind in VISION else text_examples()
    lengths = encoder(examples)["attention_mask"].sum(dim=1).tolist()
    [batch] = steps_of(encoder, model, capacity=sum(lengths), rows=1)(examples)["micro_batches"]
    layout = lay_out(lengths, capacity=sum(lengths), rows=1, hidden_size=64)
    order = [index for row in layout.rows for index in row]
    answers = "".join(str(examples[index].messages[-1].parts[0]) + encoder.tokenizer.eos_token for index in order)
    assert encoder.tokenizer.decode(batch["labels"][batch["labels"] != IGNORED]) == answers


@pytest.mark.parametrize("kind", ["qwen2", "qwen3_vl"])
def test_without_positions_that_restart_the_logits_differ(
    loaded: Callable[[str], tuple[PreTrainedModel, Collator]], kind: str
) -> None:
    model, encoder = loaded(kind)
    examples = vision_examples() if kind in VISION else text_examples()
    [batch] = steps_of(encoder, model, capacity=4096, rows=1)(examples)["micro_batches"]
    running = torch.arange(batch["input_ids"].shape[1]).expand(batch["position_ids"].shape)
    with torch.no_grad():
        right, wrong = (summed_loss(model, batch | {"position_ids": p})[1] for p in (batch["position_ids"], running))
    assert (right - wrong).abs().max() > 100 * TOLERANCE


def test_a_micro_batch_holds_at_most_so_many_rows_and_the_first_token_of_a_sample_is_never_a_target(
    loaded: Callable[[str], tuple[PreTrainedModel, Collator]],
) -> None:
    model, encoder = loaded("llama")
    encoder.train_on = "all"
    examples = text_examples() * 3
    longest = int(encoder(examples)["attention_mask"].sum(dim=1).max())
    step = steps_of(encoder, model, capacity=longest, rows=2)(examples)
    assert [len(batch["input_ids"]) for batch in step["micro_batches"][:-1]] == [2] * (len(step["micro_batches"]) - 1)
    for batch in step["micro_batches"]:
        assert batch["input_ids"].shape[1] <= longest
        assert (batch["labels"][batch["position_ids"] == 0] == IGNORED).all()
        filling = batch["input_ids"] == encoder.tokenizer.pad_token_id
        assert (batch["labels"][filling] == IGNORED).all()


def test_a_row_that_is_too_long_is_named_with_the_fix(
    loaded: Callable[[str], tuple[PreTrainedModel, Collator]],
) -> None:
    model, encoder = loaded("qwen2")
    with pytest.raises(TrainingError, match=r"rows.jsonl row 1 has \d+ tokens, more than maxSeqLength \(16\); raise"):
        steps_of(encoder, model, capacity=16, rows=1)(text_examples())


def test_the_collator_can_be_handed_to_a_worker_without_the_weights(
    loaded: Callable[[str], tuple[PreTrainedModel, Collator]],
) -> None:
    model, encoder = loaded("qwen2_5_vl")
    steps = steps_of(encoder, model, capacity=4096, rows=1)
    sent = pickle.dumps(steps)
    assert len(sent) < 500_000
    [here], [there] = (make(vision_examples())["micro_batches"] for make in (steps, pickle.loads(sent)))
    assert torch.equal(here["position_ids"], there["position_ids"])


# For which models


def small(model_type: str) -> PreTrainedModel:
    """A random model of a family, from its config alone; sliding windows are shorter than the samples."""
    sizes: dict[str, Any] = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "sliding_window": 6,
        "query_pre_attn_scalar": 8,
    }
    if model_type == "qwen2_vl":
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
        vision = {"depth": 1, "embed_dim": 16, "num_heads": 2, "hidden_size": 32}
        config = AutoConfig.for_model(model_type, text_config=sizes | {"rope_parameters": rope}, vision_config=vision)
        return AutoModelForImageTextToText.from_config(config, attn_implementation="sdpa")
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **sizes), attn_implementation="sdpa")


PACKING = {name for name, family in FAMILIES.items() if family.packs}


@pytest.mark.parametrize("model_type", sorted(PACKING - {*TEXT, *VISION}))
def test_each_family_that_is_named_as_shown_is_shown(model_type: str) -> None:
    torch.manual_seed(0)
    model = small(model_type).float().train()
    torch.nn.init.normal_(model.get_output_embeddings().weight, std=0.5)
    samples = [{"input_ids": ids, "labels": ids} for ids in (torch.randint(3, 64, (1, n)) for n in (9, 4, 1, 15))]
    with torch.no_grad():
        apart = [summed_loss(model, sample) for sample in samples]
        batch = packed_batch([samples[:3], samples[3:]], 0, rope_index(model.config))
        together = summed_loss(model, batch)
    expected = torch.cat([logits for _, logits, _ in apart])
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(together[1], expected, atol=TOLERANCE, rtol=0)
    assert together[0].item() == pytest.approx(sum(loss.item() for loss, _, _ in apart), rel=TOLERANCE)


@pytest.mark.parametrize(
    ("model_type", "attention", "words"),
    [
        ("qwen2_5_vl", None, None),
        ("llama", "sdpa", None),
        ("mamba", "sdpa", "'mamba' and may mix rows; set packing: false"),
        ("llama", "flash_attention_2", "uses 'flash_attention_2'; set packing: false, or backend"),
    ],
)
def test_what_was_not_shown_is_refused_with_the_reason(
    model_type: str, attention: str | None, words: str | None
) -> None:
    refused = refusal(model_type, attention)
    assert (refused is None) if words is None else (words in (refused or ""))
