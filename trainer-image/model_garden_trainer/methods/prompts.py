"""Prompts to which a model writes answers: their text, their tokens, and what the model takes besides, such as images.

Writing answers and training on them read a prompt through the same encoder, so that both see the same tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from trl.trainer.utils import RepeatSampler

from model_garden.datasets import Example
from model_garden_trainer.batches.collator import Collator


class Prompt(str):
    """The text of a row's prompt with the row, which TRL takes along to where it would tokenize the text."""

    example: Example

    @classmethod
    def of(cls, example: Example, encoder: Collator) -> Prompt:
        """The prompt of a row, as a server sends it.

        Raises:
            TrainingError: InvalidDataset, as the encoder's.
        """
        prompt = cls(encoder.render(example).prompt)
        prompt.example = example
        return prompt

    def __deepcopy__(self, _: Any) -> Prompt:
        """The same: nothing of it changes."""
        return self


@dataclass(frozen=True)
class PromptInputs:
    """What a model takes of the prompts of some rows, which are padded on the left.

    Args:
        ids: the tokens of each prompt.
        of_tokens: further inputs with a value for each token (rows x longest prompt, and more dimensions in some
            models), such as ``token_type_ids``.
        others: the inputs of images.
    """

    ids: list[list[int]]
    of_tokens: dict[str, torch.Tensor]
    others: dict[str, torch.Tensor]

    @classmethod
    def of(cls, examples: Sequence[Example], encoder: Collator) -> PromptInputs:
        """Encode the prompts of rows, without the answers, whose first characters may share a token with the prompt.

        Raises:
            TrainingError: InvalidDataset, as the encoder's.
        """
        batch = encoder.prompts(list(examples))
        ids, mask = batch.pop("input_ids"), batch.pop("attention_mask").bool()
        of_tokens = {name: value for name, value in batch.items() if value.shape[:2] == ids.shape}
        return cls(
            [row[kept].tolist() for row, kept in zip(ids, mask, strict=True)],
            of_tokens,
            {name: value for name, value in batch.items() if name not in of_tokens},
        )

    def all(self, device: torch.device, *, prompt: int | None = None, answer: int = 0) -> dict[str, torch.Tensor]:
        """All inputs but the tokens.

        Args:
            device: where to.
            prompt: the length to which the prompts are padded on the left.
            answer: the length of the answers that follow them. A token of an answer sees the images that the last token
                of its prompt sees.
        """
        found = dict(self.others)
        for name, value in self.of_tokens.items():
            before = value.new_zeros(len(value), (prompt or value.shape[1]) - value.shape[1], *value.shape[2:])
            last = value[:, -1:] if value.dim() > 2 else torch.zeros_like(value[:, -1:])
            found[name] = torch.cat([before, value, last.expand(-1, answer, *value.shape[2:])], dim=1)
        return {name: value.to(device) for name, value in found.items()}


class PromptSampler(RepeatSampler):
    """TRL's sampler with an order of its own for each epoch, which a resumed run repeats, and without rows left out.

    TRL leaves out the last rows of an epoch where they make no whole step. Here the first rows of the epoch fill it up.
    """

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each pass over the data."""
        self.generator.manual_seed(self.seed + epoch)

    def __iter__(self) -> Iterator[int]:
        """The rows of each step, each ``mini_repeat_count`` times, and all of them ``repeat_count`` times."""
        order = torch.randperm(self.num_samples, generator=self.generator).tolist()
        order += order[: -len(order) % self.batch_size]
        for start in range(0, len(order), self.batch_size):
            rows = [row for row in order[start : start + self.batch_size] for _ in range(self.mini_repeat_count)]
            yield from rows * self.repeat_count

    def __len__(self) -> int:
        """How many rows are drawn in an epoch."""
        steps = math.ceil(self.num_samples / self.batch_size)
        return int(steps * self.batch_size * self.mini_repeat_count * self.repeat_count)
