"""Runs of GRPO on a tiny model: the reward rises, runs resume as others do, and failing reward functions are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_garden.datasets.example import Example, Message
from model_garden.datasets.origin import Origin
from model_garden_trainer.errors import TrainingError
from tests.trainer.preferences import LETTERS, assert_a_resumed_run_equals, write_rows
from tests.trainer.workspace import TEXT, Workspace, config

pytestmark = pytest.mark.train

JOB: dict[str, Any] = {
    "method": "grpo",
    "datasetPath": "./data/prompts.jsonl",
    "grpo": {"numGenerations": 16, "maxCompletionLength": 8},
    "rewards": {"functions": ["letters"], "file": "./data/rewards.py"},
    "hyperparameters": {
        "learningRate": 1e-2, "batchSize": 16, "gradientAccumulationSteps": 2, "maxSteps": 12, "loggingSteps": 1,
        "saveSteps": 100, "evalSteps": 6, "lrSchedulerType": "constant",
    },
    "loraConfig": {"r": 8, "loraAlpha": 32},
    "validationFraction": 0.2,
    "saveMethod": "merged_16bit",
}  # fmt: skip


@pytest.fixture
def prompts(workspace: Workspace) -> Workspace:
    """The workspace with ten prompts, which make an epoch of two steps, and a file with a reward function."""
    rows = [{"prompt": [{"role": "user", "content": f"Spell {n}."}], "answer": str(n)} for n in range(10)]
    write_rows(workspace.folder / "data/prompts.jsonl", rows)
    (workspace.folder / "data/rewards.py").write_text(LETTERS)
    return workspace


def test_the_reward_rises_and_a_resumed_run_equals_an_unbroken_one(prompts: Workspace) -> None:
    outcome, _ = prompts.train(config("whole", TEXT, JOB))
    assert outcome.result == "Succeeded" and outcome.output is not None and outcome.output.verified
    figures = [line["metrics"] for line in prompts.metrics("whole") if "loss" in line]
    rewards = [one["reward"] for one in figures]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.15
    assert figures[-1]["rewards/letters/mean"] == figures[-1]["reward"]
    assert 0 < figures[-1]["completions/mean_length"] <= 8 and "reward_std" in figures[-1]
    evaluated = [line for line in prompts.metrics("whole") if "evalLoss" in line]
    assert evaluated[-1]["evalLoss"] == pytest.approx(-evaluated[-1]["metrics"]["eval_reward"], abs=1e-4)

    assert_a_resumed_run_equals(prompts, "whole", config("broken", TEXT, JOB))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("    raise KeyError('price')", "reward function letters raised KeyError: 'price' (line 2 of rewards.py); "),
        ("    return [None] * len(prompts)", "every function of rewards.functions returned None for an answer to "),
    ],
)
def test_a_reward_function_that_fails_is_named_with_the_row(prompts: Workspace, body: str, words: str) -> None:
    head = "def letters(prompts, completions, **columns):\n"
    (prompts.folder / "data/rewards.py").write_text(head + body)
    with pytest.raises(TrainingError) as raised:
        prompts.train(config("fails", TEXT, JOB))
    assert raised.value.reason == "RewardFailed"
    assert words in str(raised.value) and "data/prompts.jsonl row" in str(raised.value)


def test_an_epoch_has_every_prompt_and_whole_steps() -> None:
    from model_garden_trainer.methods.prompts import PromptSampler

    sampler = PromptSampler(range(5), mini_repeat_count=2, batch_size=3, repeat_count=2, seed=1)
    sampler.set_epoch(1)
    first = list(sampler)
    assert len(first) == len(sampler) == 24 and set(first) == set(range(5))
    assert first[:6] == first[6:12] and first[::2] == first[1::2] and len(set(first[12:18])) == 3
    sampler.set_epoch(2)
    assert list(sampler) != first
    sampler.set_epoch(1)
    assert list(sampler) == first


def test_what_a_reward_function_returns_is_a_number_or_none_for_each_answer() -> None:
    import numpy

    from model_garden_trainer.rewards import Reward

    def told(returned: Any) -> Any:
        def letters(prompts: Any, completions: Any) -> Any:
            return returned

        asked = {"columns": [{}, {}], "row": ["rows.jsonl row 1", "rows.jsonl row 2"]}
        return Reward("letters", letters)(["p", "q"], ["a", "b"], **asked)

    assert told([1, None]) == [1.0, None] and told((True, 0.5)) == [1.0, 0.5]
    assert told(numpy.array([0.25, 2.0], dtype=numpy.float32)) == [0.25, 2.0]
    for returned, words in (
        ([0.5, float("nan")], "returned nan, which is no finite number; rows.jsonl row 2, answer 'b'; correct the"),
        ([float("inf"), 1.0], "returned inf, which is no finite number; rows.jsonl row 1, answer 'a'"),
        (["0.5", 1.0], "returned '0.5', which is no finite number; rows.jsonl row 1"),
        ([[0.5], 1.0], "returned [0.5], which is no finite number; rows.jsonl row 1"),
        ([1.0], "returned 1 values for 2 answers; rows.jsonl row 1"),
        (0.5, "returned 0.5, which is no list of numbers; rows.jsonl row 1 (the first of 2 answers)"),
        (None, "returned None, which is no list of numbers; rows.jsonl row 1 (the first of 2 answers)"),
    ):
        with pytest.raises(TrainingError) as raised:
            told(returned)
        assert raised.value.reason == "RewardFailed"
        assert f"reward function letters {words}" in str(raised.value)


def test_a_prompt_is_rendered_as_for_sft_up_to_its_answer(prompts: Workspace) -> None:
    from model_garden_trainer.batches.splits import open_data
    from model_garden_trainer.methods.prompts import Prompt, PromptInputs
    from model_garden_trainer.models import auto_classes

    spec = config("prompt", TEXT, JOB).spec
    encoder = auto_classes.collator(spec, Path(spec.base_model))
    example = open_data(spec, 1).training[0]
    asked = [{"role": "user", "content": example.messages[0].parts[0]}]
    prompt = Prompt.of(example, encoder)
    assert prompt == encoder.tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    [ids] = PromptInputs.of([example], encoder).ids
    assert ids == encoder.tokenizer.apply_chat_template(asked, add_generation_prompt=True)["input_ids"]


def test_a_prompt_keeps_its_end_where_a_token_holds_that_and_the_start_of_the_answer(prompts: Workspace) -> None:
    from model_garden_trainer.methods.prompts import PromptInputs
    from model_garden_trainer.models import auto_classes

    spec = config("prompt", TEXT, JOB).spec
    encoder = auto_classes.collator(spec, Path(spec.base_model))
    words = sorted(token for token in encoder.tokenizer.get_vocab() if len(token) > 1 and token.isalpha())
    word = next(word for word in words if len(encoder.tokenizer(word)["input_ids"]) == 1)
    for end in (word[:-1], f"{word} "):  # a prompt that the answer would join, and one that ends in a space
        example = Example("completion", (Message("user", (end,)), Message("assistant", (word[-1],))), Origin("rows", 1))
        [ids] = PromptInputs.of([example], encoder).ids
        assert encoder.tokenizer.decode(ids).endswith(end)


def test_what_cannot_work_is_refused_before_the_model_is_loaded(prompts: Workspace) -> None:
    def refused(*parts: dict[str, Any]) -> str:
        with pytest.raises(TrainingError) as raised:
            prompts.train(config("refused", TEXT, JOB, *parts))
        return str(raised.value)

    assert "has no function 'digits'; its functions are: letters" in refused({"rewards": {"functions": ["digits"]}})
    assert "does not exist" in refused({"rewards": {"file": "./data/none.py"}})
    assert "does not divide the 32 answers" in refused({"grpo": {"numGenerations": 3}})
    many = {"hyperparameters": {"gradientAccumulationSteps": 16}}
    assert "has 8 rows to train on, and an optimizer step takes 16 prompts" in refused(many)
    write_rows(prompts.folder / "data/prompts.jsonl", [{"prompt": f"{n}"} for n in range(5)])
    matched = {"rewards": {"functions": ["exact_match"]}}
    assert "row 1: the row has no expected answer" in refused(matched, {"validationFraction": 0.3})


def test_the_named_functions_give_one_for_a_perfect_answer_and_nothing_for_a_useless_one(prompts: Workspace) -> None:
    from model_garden_trainer.rewards import load

    schema = json.dumps({"type": "object", "required": ["total"]})
    rewards = {
        "functions": ["exact_match", "similarity", "regex", "json_schema", "length"],
        "pattern": r"\d+", "jsonSchema": schema, "maxLength": 10,
    }  # fmt: skip
    functions = load(config("named", TEXT, JOB, {"rewards": rewards}).spec)
    answers = ["42", " 42\n", "41", '{"total": 1}', "[]", "x" * 15, "x" * 40, "[" * 10_000, '"\\ud800"']
    columns = [{"answer": 42}] * len(answers)
    found = {
        one.__name__: one(answers, answers, columns=columns, row=["rows.jsonl row 1"] * len(answers))
        for one in functions
    }
    assert found["exact_match"] == [1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert found["similarity"][:3] == [1, 1, 0.5]
    assert found["regex"] == [1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert found["json_schema"] == [0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert found["length"][0] == 1 and found["length"][5:7] == [0.5, 0]
    reasoned = ["<think>\n6 x 7\n</think>\n\n42"]
    assert functions[0](reasoned, reasoned, columns=columns[:1], row=["rows.jsonl row 1"]) == [1]
