"""How a model answers: greedy decoding of prompts, several at once, and the answers to the rows of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from transformers import StoppingCriteriaList

from model_garden_trainer.batches.collator import Batch, Collator
from model_garden_trainer.evaluation.answered import spoken
from model_garden_trainer.evaluation.questions import Question

BaseModel = Callable[[], AbstractContextManager[Any]]
"""Gives the base model, of which the trained one may be a part that is switched on again afterwards."""


@dataclass(frozen=True)
class Answer:
    """What a model wrote, and whether it was cut at the longest answer that was allowed."""

    text: str
    cut: bool


def _never() -> bool:
    return False


def generate(
    model: Any, tokenizer: Any, prompts: Batch, new_tokens: int, ended: Callable[[], bool] = _never
) -> list[Answer]:
    """The answers to prompts by greedy decoding.

    Args:
        model: in evaluation mode.
        tokenizer: the model's.
        prompts: padded on the left.
        new_tokens: longest answer in tokens.
        ended: asked after each token; whether to write no more.
    """
    inputs = {key: value.to(model.device) for key, value in prompts.items()}

    def ends(tokens: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return torch.full((len(tokens),), ended(), device=tokens.device)

    with torch.no_grad():  # a tensor of inference mode that a model keeps could not be trained with
        written = model.generate(
            **inputs,
            max_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
            stopping_criteria=StoppingCriteriaList([ends]),
        )
    eos = model.generation_config.eos_token_id
    listed = torch.tensor(eos if isinstance(eos, list) else [eos] if eos is not None else [], device=written.device)
    answers = written[:, inputs["input_ids"].shape[1] :]
    cut = (answers.shape[1] >= new_tokens) & ~torch.isin(answers, listed).any(dim=1)
    texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
    return [Answer(text.strip(), bool(was_cut)) for text, was_cut in zip(texts, cut, strict=True)]


def answer_all(
    questions: Sequence[Question],
    model: Any,
    encoder: Collator,
    *,
    new_tokens: int,
    batch_size: int,
    ended: Callable[[], bool] = _never,
) -> Iterator[Answer]:
    """The answer to each question, without the reasoning before it. A batch that needs too much memory is halved.

    ``ended`` is asked after each token; once it says so, answers are cut short.

    Raises:
        RuntimeError: memory does not suffice for one row.
    """
    at = 0
    while at < len(questions):
        batch = questions[at : at + batch_size]
        found = _unless_too_large(batch, model, encoder, new_tokens, ended)
        if found is None:
            batch_size //= 2
            clear_device_cache(garbage_collection=True)  # here, where the tensors of the error's frames are gone
            continue
        at += len(batch)
        yield from (Answer(spoken(answer.text).strip(), answer.cut) for answer in found)


def _unless_too_large(
    batch: Sequence[Question], model: Any, encoder: Collator, new_tokens: int, ended: Callable[[], bool]
) -> list[Answer] | None:
    """The answers to a batch; None if memory does not suffice for it, but may for half of it."""
    try:
        return generate(model, encoder.tokenizer, encoder.prompts([one.example for one in batch]), new_tokens, ended)
    except RuntimeError as error:
        if len(batch) == 1 or not should_reduce_batch_size(error):
            raise
        return None
