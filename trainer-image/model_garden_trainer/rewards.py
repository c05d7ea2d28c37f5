"""Reward functions of GRPO: by name, or from a Python file on the data claim. No torch here: the preflight checks them.

A function has the signature that TRL gives it: ``def name(prompts, completions, **columns) -> list[float | None]``.
Each argument is a list with a value for each answer; ``completions`` are texts, and ``columns`` are the row's other
columns, None where a row lacks one. A reward of None leaves the function out of the reward of that answer.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from model_garden.contract.methods import Rewards
from model_garden.contract.spec import EffectiveSpec
from model_garden.datasets.formats.prompts import ANSWERS
from model_garden_trainer.batches.splits import Subset
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.evaluation import metrics, questions
from model_garden_trainer.evaluation.answered import spoken

Function = Callable[..., Sequence[float | None]]
Score = Callable[[str, Mapping[str, Any]], float]
"""The reward of one answer: its text, and the columns of its row."""


class Reward:
    """A reward function as TRL calls it, whose errors name the function and the row.

    Args:
        name: as in ``rewards.functions``.
        function: with TRL's signature.
    """

    def __init__(self, name: str, function: Function) -> None:
        self.__name__, self._function = name, function

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        columns: Sequence[Mapping[str, Any]],
        row: Sequence[str],
        **_: Any,
    ) -> list[float | None]:
        """The rewards of some answers.

        Args:
            prompts, completions: texts.
            columns: of each answer, the columns of its row.
            row: of each answer, file and number of its row.

        Raises:
            TrainingError: RewardFailed.
        """
        names = sorted({name for one in columns for name in one})
        given = {name: [one.get(name) for one in columns] for name in names}
        try:
            found = self._function(prompts=list(prompts), completions=list(completions), **given)
            values = list(found) if isinstance(found, Iterable) else None
        except TrainingError as error:
            raise TrainingError(error.reason, f"reward function {self.__name__}: {error}") from error
        except Exception as error:  # a function of a user can raise any exception
            what = f"raised {type(error).__name__}: {error}{_line(error)}"
            raise self._failed(what, row[0], completions[0], len(row)) from error
        if values is None:
            raise self._failed(f"returned {found!r:.80}, which is no list of numbers", row[0], completions[0], len(row))
        if len(values) != len(completions):
            raise self._failed(f"returned {len(values)} values for {len(completions)} answers", row[0], completions[0])
        return [
            None if value is None else self._number(value, place, text)
            for value, place, text in zip(values, row, completions, strict=True)
        ]

    def _number(self, value: Any, place: str, text: str) -> float:
        """A reward as a number; those of NumPy and torch are numbers too."""
        try:
            number = math.nan if isinstance(value, (str, bytes)) else float(value)
        except (TypeError, ValueError, RuntimeError):
            number = math.nan
        if not math.isfinite(number):
            raise self._failed(f"returned {value!r:.80}, which is no finite number", place, text)
        return number

    def _failed(self, what: str, row: str, completion: str, rows: int = 1) -> TrainingError:
        where = f"{row} (the first of {rows} answers)" if rows > 1 else row
        return TrainingError(
            "RewardFailed",
            f"reward function {self.__name__} {what}; {where}, answer {completion[:80]!r}; correct the function or the "
            "row",
        )


def _line(error: Exception) -> str:
    """Where a function of a user failed."""
    frames = traceback.extract_tb(error.__traceback__)[1:2]  # the first frame is of the call itself
    return f" (line {frames[0].lineno} of {Path(frames[0].filename).name})" if frames else ""


def load(spec: EffectiveSpec) -> list[Reward]:
    """The reward functions of a job, in the order of ``rewards.functions``.

    Raises:
        TrainingError: InvalidSpec for a file that cannot be imported, or that lacks a function.
    """
    rewards = spec.rewards
    assert rewards is not None
    own = _functions_of(rewards.file) if rewards.file else {}
    scores = _scores(rewards)
    found: list[Reward] = []
    for name in rewards.functions:
        if name in own:
            found.append(Reward(name, own[name]))
        elif name in scores:
            found.append(Reward(name, _each(scores[name])))
        else:
            there = ", ".join(sorted(own)) or "none"
            raise TrainingError(
                "InvalidSpec",
                f"spec.rewards.functions: {rewards.file} has no function {name!r}; its functions are: {there}",
            )
    return found


def check(spec: EffectiveSpec, examples: Subset) -> None:
    """Load the functions, and see that the rows make a step and have the answers that the functions compare with.

    Raises:
        TrainingError: InvalidSpec, or InvalidDataset for too few rows or a row without an answer.
    """
    rewards, grpo, h = spec.rewards, spec.grpo, spec.hyperparameters
    assert rewards is not None
    assert grpo is not None
    rows = h.batch_size * h.gradient_accumulation_steps * max(spec.gpus, 1) * spec.num_nodes
    if rows % grpo.num_generations:
        raise TrainingError(
            "InvalidSpec",
            f"spec.grpo.numGenerations: {grpo.num_generations} does not divide the {rows} answers of an optimizer step "
            "(batchSize x gradientAccumulationSteps x GPUs); change one of them",
        )
    if len(examples) < rows // grpo.num_generations:
        raise TrainingError(
            "InvalidDataset",
            f"{spec.dataset_path}: has {len(examples)} rows to train on, and an optimizer step takes "
            f"{rows // grpo.num_generations} prompts (batchSize x gradientAccumulationSteps x GPUs / numGenerations); "
            "add rows, or lower hyperparameters.gradientAccumulationSteps",
        )
    load(spec)
    if not {"exact_match", "similarity"} & set(rewards.functions):
        return
    for example in examples:
        try:
            answer_of(example.columns or {}, rewards.answer_column)
        except TrainingError as error:
            raise TrainingError(error.reason, f"{example.origin}: {error}") from error


def answer_of(columns: Mapping[str, Any], column: str | None) -> str:
    """The expected answer of a row.

    Raises:
        TrainingError: InvalidDataset if it has none.
    """
    value = questions.answer_of(columns, column)
    if value is None:
        raise TrainingError(
            "InvalidDataset",
            f"the row has no expected answer ({column or ' or '.join(ANSWERS)}), which exact_match and similarity "
            "compare with; add the column, or name it in rewards.answerColumn",
        )
    return questions.as_text(value)


def _each(score: Score) -> Function:
    def rewards(prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]) -> list[float]:
        rows = [{name: values[at] for name, values in columns.items()} for at in range(len(prompts))]
        return [score(spoken(text), row) for text, row in zip(completions, rows, strict=True)]

    return rewards


def _scores(rewards: Rewards) -> dict[str, Score]:
    """The functions by name. Each gives 1 for a perfect answer and 0 for a useless one."""
    pattern = _pattern(rewards.pattern)
    validator = _validator(rewards.json_schema)
    limit = rewards.max_length or 1

    def exact_match(text: str, columns: Mapping[str, Any]) -> float:
        return metrics.exact_match(answer_of(columns, rewards.answer_column), text)

    def similarity(text: str, columns: Mapping[str, Any]) -> float:
        return metrics.similarity(answer_of(columns, rewards.answer_column), text)

    def regex(text: str, _: Mapping[str, Any]) -> float:
        return float(pattern.fullmatch(text.strip()) is not None)

    def json_schema(text: str, _: Mapping[str, Any]) -> float:
        try:
            value = json.loads(text)
            return float(validator is None or validator.is_valid(value))
        except (ValueError, RecursionError):  # no JSON, nested too deeply, or half of a surrogate pair
            return 0.0

    def length(text: str, _: Mapping[str, Any]) -> float:
        return max(0.0, min(1.0, 2.0 - len(text.strip()) / limit))

    return {
        "exact_match": exact_match,
        "similarity": similarity,
        "regex": regex,
        "json_schema": json_schema,
        "length": length,
    }


def _pattern(pattern: str | None) -> re.Pattern[str]:
    try:
        return re.compile(pattern or "", re.DOTALL)
    except re.error as error:
        message = f"spec.rewards.pattern: {pattern!r} is no regular expression of Python: {error}; correct it"
        raise TrainingError("InvalidSpec", message) from error


def _validator(schema: str | None) -> Any:
    if schema is None:
        return None
    import jsonschema_rs

    try:
        return jsonschema_rs.validator_for(json.loads(schema))
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        message = f"spec.rewards.jsonSchema: is no JSON schema: {str(error).splitlines()[0]}; correct it"
        raise TrainingError("InvalidSpec", message) from error


def _functions_of(file: str) -> dict[str, Function]:
    """The functions of a Python file, which is run once.

    Raises:
        TrainingError: InvalidSpec if it cannot be imported.
    """
    path = Path(file)
    if not path.is_file():
        raise TrainingError("InvalidSpec", f"spec.rewards.file: {file} does not exist; put it on the data claim")
    found = importlib.util.spec_from_file_location("model_garden_rewards", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except Exception as error:  # a file of a user can raise any exception
        message = f"spec.rewards.file: {file} cannot be imported: {type(error).__name__}: {error}; correct the file"
        raise TrainingError("InvalidSpec", message) from error
    return {name: value for name, value in vars(module).items() if callable(value) and not name.startswith("_")}
