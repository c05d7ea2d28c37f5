"""What a few rows are answered with before and after training, so that a person sees what the training did.

It happens in the process that checks the output (``verify``), with the adapters switched off and on: what is shown is
what the saved files answer, and training itself is not touched by it.
"""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal, get_args

from model_garden.contract.status import Samples, SampleScores
from model_garden.datasets import Example
from model_garden.datasets.formats.prompts import UNKNOWN
from model_garden.datasets.pictures import decode
from model_garden_trainer.batches.collator import IGNORED, Batch, Collator
from model_garden_trainer.batches.splits import Data, Subset
from model_garden_trainer.evaluation.answering import BaseModel, generate
from model_garden_trainer.evaluation.metrics import exact_match, similarity
from model_garden_trainer.evaluation.questions import asked_text

Split = Literal["train", "validation"]

ROWS = 10
"""Rows of each split that are answered."""
NEW_TOKENS = 64
"""Longest answer; of a longer expected one this many tokens are compared."""
THUMBNAIL = 160
"""Pixels: a thumbnail is about 4 KB, so that its event stays below the 16 KB at which containerd splits a line."""
_BEYOND = 4
"""Tokens that an answer may have beyond the expected one: enough to see that it does not end there."""


@dataclass(frozen=True)
class Question:
    """A row up to its first answer: the question, as a batch of one, and the expected answer."""

    example: Example
    prompt: Batch
    expected: str
    new_tokens: int

    @property
    def origin(self) -> str:
        """File and number of the row."""
        return str(self.example.origin)

    @property
    def text(self) -> str:
        """The last turn before the answer, long ones cut; '' for a row of plain text."""
        return asked_text(self.example)

    def thumbnail(self) -> str | None:
        """The row's first image as a JPEG in base64, at most ``THUMBNAIL`` pixels wide and high."""
        if not self.example.images:
            return None
        picture = decode(self.example.images[0])
        picture.thumbnail((THUMBNAIL, THUMBNAIL))
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=70)
        return base64.b64encode(file.getvalue()).decode()

    @classmethod
    def of(cls, example: Example, encoder: Collator) -> Question:
        """The first question of ``example``; a row of plain text is to be continued from its middle."""
        exchange = first_exchange(example)
        batch = encoder([exchange])
        length = batch["input_ids"].shape[1]
        trained = (batch["labels"][0] != IGNORED).nonzero().flatten().tolist()
        first, end = trained[0], trained[-1] + 1
        if example.kind == "text":
            first = (first + end + 1) // 2 if end - first > 1 else first
            prompt = {
                key: value[:, :first] if value.shape[:2] == (1, length) else value
                for key, value in batch.items()
                if key != "labels"
            }
        else:
            prompt = encoder.prompts([exchange])
            asked = prompt["input_ids"][0]
            # What is trained may begin before the end of the prompt, with the header of the answer.
            if batch["input_ids"][0, : len(asked)].tolist() == asked.tolist():
                first = len(asked)
        end = min(end, first + NEW_TOKENS)
        expected = encoder.tokenizer.decode(batch["input_ids"][0, first:end], skip_special_tokens=True)
        if (
            example.columns is not None and expected.strip() == UNKNOWN
        ):  # a prompt for GRPO whose row has no expected answer
            expected, end = "", first + NEW_TOKENS
        return cls(exchange, prompt, expected.strip(), min(NEW_TOKENS, end - first + _BEYOND))

    def answer(self, model: Any, tokenizer: Any) -> str:
        """The answer of ``model`` by greedy decoding."""
        [answer] = generate(model, tokenizer, self.prompt, self.new_tokens)
        return answer.text


@dataclass(frozen=True)
class Sample:
    """A row's expected answer, and those of the base model and of the trained one."""

    split: Split
    row: str
    question: str
    expected: str
    before: str
    after: str

    def to_dict(self) -> dict[str, Any]:
        """As ``samples.json`` holds it."""
        return dataclasses.asdict(self) | {
            "similarityBefore": round(similarity(self.expected, self.before), 4),
            "similarityAfter": round(similarity(self.expected, self.after), 4),
        }


def questions(data: Data, encoder: Collator) -> list[tuple[Split, Question]]:
    """The first training rows and the first validation rows, where there are any."""
    splits: dict[Split, Subset] = {"train": data.training, "validation": data.validation}
    return [
        (split, Question.of(rows[index], encoder))
        for split, rows in splits.items()
        for index in range(min(ROWS, len(rows)))
    ]


Asked = list[tuple[Split, Question]]


def ask(asked: Asked, model: Any, base: BaseModel, tokenizer: Any) -> list[Sample]:
    """Let the base model answer, and then the trained one."""
    with base() as untrained:
        before = [question.answer(untrained, tokenizer) for _, question in asked]
    after = [question.answer(model, tokenizer) for _, question in asked]
    return [
        Sample(split, question.origin, question.text, question.expected, *answers)
        for (split, question), *answers in zip(asked, before, after, strict=True)
    ]


def scores(samples: list[Sample]) -> Samples:
    """The scores of each split; there is at least one sample of a training row."""
    of_split = {split: [sample for sample in samples if sample.split == split] for split in get_args(Split)}
    return Samples(**{split: _means(found) for split, found in of_split.items() if found})


def _means(samples: list[Sample]) -> SampleScores:
    """Means over ``samples``, of which there is at least one."""

    def mean(score: Callable[[str, str], float], answers: Iterator[str]) -> float:
        pairs = zip((sample.expected for sample in samples), answers, strict=True)
        return round(fmean(score(expected, answer) for expected, answer in pairs), 4)

    return SampleScores(
        rows=len(samples),
        exact_match_before=mean(exact_match, (sample.before for sample in samples)),
        exact_match_after=mean(exact_match, (sample.after for sample in samples)),
        similarity_before=mean(similarity, (sample.before for sample in samples)),
        similarity_after=mean(similarity, (sample.after for sample in samples)),
    )


def first_exchange(example: Example) -> Example:
    """``example`` up to its first answer that is trained on."""
    for index, message in enumerate(example.messages):
        if message.answers:
            return dataclasses.replace(example, messages=example.messages[: index + 1])
    return example
