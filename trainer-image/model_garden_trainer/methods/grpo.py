"""Group relative policy optimization (arXiv 2402.03300): TRL's GRPOTrainer, its loss and its metrics, on our prompts.

The model writes several answers to each prompt with transformers, reward functions (``rewards.py``) score them, and the
loss prefers answers above the mean of their group. Where ``beta`` is above 0, the reference is the base model: the same
model with its adapters switched off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import RepeatSampler

from model_garden.datasets import Example
from model_garden_trainer import rewards
from model_garden_trainer.batches.collator import Collator
from model_garden_trainer.batches.splits import Data
from model_garden_trainer.engine.batch_size import Split
from model_garden_trainer.engine.context import Run, Trained
from model_garden_trainer.engine.instrumented import Instrumented
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.methods import comparing
from model_garden_trainer.methods.prompts import Prompt, PromptInputs, PromptSampler


@dataclass(frozen=True)
class PromptCollator:
    """Rows -> what GRPOTrainer wants of each: the prompt, the columns for reward functions, and the row's place."""

    encoder: Collator

    def __call__(self, examples: list[Example]) -> list[dict[str, Any]]:
        """A batch.

        Raises:
            TrainingError: InvalidDataset, as the encoder's.
        """
        return [
            {
                "prompt": Prompt.of(example, self.encoder),
                "columns": dict(example.columns or {}),
                "row": str(example.origin),
            }
            for example in examples
        ]


class RewardTrainer(Instrumented, comparing.Comparing, GRPOTrainer):
    """The trainer of a run: GRPOTrainer on our prompts, instrumented.

    TRL would render and tokenize prompts itself, and has a way to split the tensors of images for some models. Here the
    rows go along with the answers, and their images are encoded for the answers of each micro-batch.

    Args:
        encoder: renders and encodes rows.
        options: those of ``Comparing`` and of GRPOTrainer.
    """

    MAY_LACK_GRADIENT = True  # answers of equal reward teach nothing

    def __init__(self, *, encoder: Collator, data_collator: Any, **options: Any) -> None:
        super().__init__(**options)
        self.data_collator = data_collator
        self._encoder = encoder
        self._seen: Sequence[Example] = ()
        self._bound_answers()
        comparing.reference_without_adapters(self.model)

    def count(self, batch: Any) -> tuple[int, int]:
        """Answers of a micro-batch; their tokens are counted when they are written."""
        del batch
        return self.args.per_device_train_batch_size, 0

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **options: Any) -> Any:
        """GRPO's loss of a micro-batch of answers."""
        if self.model.training:
            self.window.tokens += int(inputs["prompt_mask"].sum() + inputs["completion_mask"].sum())
        with self._seeing(inputs["examples"]):
            return super().compute_loss(model, inputs, *args, **options)

    def evaluation_loop(self, *args: Any, **options: Any) -> Any:
        """The evaluation: the mean reward of new answers. Its loss is the reward with a minus, so that less is better.

        GRPO's own loss says nothing about the answers: it is about 0 whatever they are.
        """
        output = super().evaluation_loop(*args, **options)
        found = self._metrics["eval"]["reward"]
        output.metrics[f"{options.get('metric_key_prefix', 'eval')}_loss"] = -sum(found) / len(found)
        return output

    def _rows(self, batch: Any) -> int:
        """The same for all: each micro-batch of a step has as many answers."""
        del batch
        return 1

    def _bound_answers(self) -> None:
        """Let an answer end with the template's own end too, which the model's files may not list, and have no tokens
        of images in it, for which there would be no image."""
        if end := self._encoder.renderer.unlisted_end():
            self.eos_token_ids.append(self._encoder.tokenizer.convert_tokens_to_ids(end))
            self.generation_config.eos_token_id = self.eos_token_ids
        self.generation_config.suppress_tokens = self._encoder.picture_tokens.tolist() or None

    def _get_train_sampler(self, dataset: Any = None) -> PromptSampler:
        settings = self.args
        return PromptSampler(
            data_source=self.train_dataset if dataset is None else dataset,
            mini_repeat_count=self.num_generations,
            batch_size=settings.generation_batch_size // self.num_generations,
            repeat_count=self.num_iterations * settings.steps_per_generation,
            shuffle=True,
            seed=settings.seed,
        )

    def _get_eval_sampler(self, eval_dataset: Any) -> RepeatSampler:
        """The rows in their order, in a resumed run too."""
        return RepeatSampler(eval_dataset, mini_repeat_count=self.num_generations_eval, shuffle=False)

    def _prepare_inputs(self, batch: Any) -> Any:
        """Write and score the answers; the time counts as part of the forward pass."""
        with self.clock.measure("forward"):
            return super()._prepare_inputs(batch)

    def _tokenize_prompts(self, prompts: list[Prompt]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Tokens and images of the prompts, which TRL would render otherwise."""
        inputs = PromptInputs.of([prompt.example for prompt in prompts], self._encoder)
        return inputs.ids, None, inputs.all(self.accelerator.device)

    def _generate_single_turn(self, *args: Any, **options: Any) -> Any:
        """Write answers without dropout."""
        training = self.model.training
        self.model.eval()
        try:
            with self.accelerator.autocast():  # generation calls the model below the one that accelerate wrapped
                return super()._generate_single_turn(*args, **options)
        finally:
            self.model.train(training)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
        examples = [row["prompt"].example for row in inputs]
        self.processing_class = self._encoder.processor  # it decodes; at other times checkpoints would hold it
        try:
            with self._seeing(examples):
                return super()._generate_and_score_completions(inputs) | {"examples": examples}
        finally:
            self.processing_class = None

    def _calculate_rewards(self, inputs: list[dict[str, Any]], *args: Any) -> torch.Tensor:
        """The rewards of all processes' answers by each function (answers x functions); NaN where it gave None.

        Raises:
            TrainingError: RewardFailed, also for an answer to which every function gave None.
        """
        found: torch.Tensor = super()._calculate_rewards(inputs, *args)
        mine = found[self.accelerator.process_index * len(inputs) :][: len(inputs)]
        for row, rewards_of_answer in zip(inputs, mine, strict=True):
            if rewards_of_answer.isnan().all():
                raise TrainingError(
                    "RewardFailed",
                    f"every function of rewards.functions returned None for an answer to {row['row']}; let one of them "
                    "return a number for each answer",
                )
        return found

    @contextmanager
    def _seeing(self, examples: Sequence[Example]) -> Iterator[None]:
        """Within it, the model sees the images of these rows, in their order."""
        self._seen = examples
        try:
            yield
        finally:
            self._seen = ()

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor | None, ...]:
        """TRL's, of prompts with their images, ``batch_size`` rows at once."""
        rows, answer = batch_size or len(input_ids), logits_to_keep
        found: list[tuple[torch.Tensor | None, ...]] = []
        for start in range(0, len(input_ids), rows):
            part = slice(start, start + rows)
            seen = self._inputs_of(self._seen[part], input_ids.shape[1] - answer, answer)
            found.append(
                super()._get_per_token_logps_and_entropies(
                    partial(model, **seen), input_ids[part], attention_mask[part], answer, **options
                )
            )
        return tuple(map(_joined, zip(*found, strict=True)))

    def _inputs_of(self, examples: Sequence[Example], prompt: int, answer: int) -> dict[str, torch.Tensor]:
        """What the model takes of rows besides their tokens; nothing for a model that reads text alone."""
        if self._encoder.processor is self._encoder.tokenizer:
            return {}
        with self.clock.measure("data"):
            inputs = PromptInputs.of(examples, self._encoder)
            return inputs.all(self.accelerator.device, prompt=prompt, answer=answer)


def _joined(parts: tuple[torch.Tensor | None, ...]) -> torch.Tensor | None:
    """Figures of some rows each as those of all: tensors by row one after another, and the mean of single numbers."""
    there = [part for part in parts if part is not None]
    if not there:
        return None
    return torch.cat(there) if there[0].dim() else torch.stack(there).mean()


def train(run: Run, model: Any, encoder: Collator, data: Data, longest: Example) -> Trained:
    """Train the adapters of ``model`` towards answers with higher rewards.

    Args and errors are those of ``comparing.train``; RewardFailed besides.
    """
    trainer = partial(RewardTrainer, encoder=encoder, reward_funcs=rewards.load(run.spec))
    method = comparing.Method(lambda encoder, _: PromptCollator(encoder), trainer, _settings)
    return comparing.train(method, run, model, encoder, data, longest)


def _settings(run: Run, data: Data, split: Split) -> GRPOConfig:
    grpo, scores = run.spec.grpo, run.spec.rewards
    assert grpo is not None
    assert scores is not None
    common = comparing.common_arguments(run, data, split)
    del common["max_length"]
    return GRPOConfig(
        **common | {"per_device_eval_batch_size": grpo.num_generations},
        num_generations=grpo.num_generations,
        max_completion_length=grpo.max_completion_length,
        temperature=grpo.temperature,
        top_p=grpo.top_p,
        beta=grpo.beta,
        epsilon=grpo.epsilon,
        loss_type=grpo.loss_type,
        scale_rewards=grpo.scale_rewards,
        reward_weights=scores.weights,
    )
