"""Group relative policy optimization (arXiv 2402.03300): TRL's GRPOTrainer, its loss and its metrics, on our prompts.

The model writes several answers to each prompt with transformers, reward functions (``rewards.py``) score them, and the
loss prefers answers above the mean of their group. Where ``beta`` is above 0, the reference is the base model: the same
model with its adapters switched off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import RepeatSampler

from model_garden.datasets import Example
from model_garden_trainer import rewards
from model_garden_trainer.batches.collator import IGNORED, Collator
from model_garden_trainer.batches.splits import Data
from model_garden_trainer.engine.batch_size import Split
from model_garden_trainer.engine.context import Run, Trained
from model_garden_trainer.engine.fit import fit
from model_garden_trainer.engine.instrumented import Instrumented
from model_garden_trainer.methods import comparing


def train(run: Run, model: Any, encoder: Collator, data: Data) -> Trained:
    """Train the adapters of ``model`` towards answers with higher rewards.

    Args:
        run: what to train and where to.
        model: the base model with fresh adapters.
        encoder: renders prompts.
        data: rows of prompts, to train on and to evaluate on.

    Raises:
        TrainingError: RewardFailed, and as ``fit``.
        Stopped: see ``fit``.
    """
    collate = PromptCollator(encoder)
    functions = rewards.load(run.spec)

    def trainer_of(split: Split) -> RewardTrainer:
        comparing.drop_reference(model)
        options = comparing.options(run, model, encoder, data, collate)
        return RewardTrainer(args=_settings(run, data, split), reward_funcs=functions, **options)

    def longest(_: int) -> dict[str, torch.Tensor]:
        raise AssertionError("autoBatchSize is refused for this method")

    trained = fit(run, model, trainer_of, longest)
    comparing.drop_reference(model)
    return trained


class Prompt(str):
    """The text of a prompt with its tokens, which TRL takes along to where it would tokenize the text."""

    ids: list[int]

    @classmethod
    def of(cls, example: Example, encoder: Collator) -> Prompt:
        """The prompt of a row: its tokens before those of its answer, as every method renders them."""
        batch = encoder([example])
        first = int((batch["labels"][0] != IGNORED).nonzero()[0])
        ids = batch["input_ids"][0, :first].tolist()
        prompt = cls(encoder.tokenizer.decode(ids))
        prompt.ids = ids
        return prompt


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
    """The trainer of a run: GRPOTrainer on our prompts, instrumented."""

    MAY_LACK_GRADIENT = True  # answers of equal reward teach nothing

    def __init__(self, *, data_collator: Any, **options: Any) -> None:
        super().__init__(**options)
        self.data_collator = data_collator
        self._decoder = options["processor"]
        comparing.reference_without_adapters(self.model)

    def count(self, batch: Any) -> tuple[int, int]:
        """Answers of a micro-batch; their tokens are counted when they are written."""
        del batch
        return self.args.per_device_train_batch_size, 0

    def compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **options: Any) -> Any:
        """GRPO's loss of a micro-batch of answers."""
        if self.model.training:
            self.window.tokens += int(inputs["prompt_mask"].sum() + inputs["completion_mask"].sum())
        return super().compute_loss(model, inputs, *args, **options)

    def evaluation_loop(self, *args: Any, **options: Any) -> Any:
        """The evaluation: the mean reward of new answers. Its loss is the reward with a minus, so that less is better.

        GRPO's own loss says nothing about the answers: it is about 0 whatever they are.
        """
        output = super().evaluation_loop(*args, **options)
        found = self._metrics["eval"]["reward"]
        output.metrics[f"{options.get('metric_key_prefix', 'eval')}_loss"] = -sum(found) / len(found)
        return output

    def _get_train_sampler(self, dataset: Any = None) -> _Prompts:
        settings = self.args
        return _Prompts(
            data_source=self.train_dataset if dataset is None else dataset,
            mini_repeat_count=self.num_generations,
            batch_size=settings.generation_batch_size // self.num_generations,
            repeat_count=self.num_iterations * settings.steps_per_generation,
            shuffle=True,
            seed=settings.seed,
        )

    def _prepare_inputs(self, batch: Any) -> Any:
        """Write and score the answers; the time counts as part of the forward pass."""
        with self.clock.measure("forward"):
            return super()._prepare_inputs(batch)

    def _tokenize_prompts(self, prompts: list[Prompt]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """The tokens that the prompts bring along."""
        return [prompt.ids for prompt in prompts], None, {}

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
        self.processing_class = self._decoder  # it decodes answers; at other times it would be saved with checkpoints
        try:
            with self.accelerator.autocast():  # generation calls the model below the one that accelerate wrapped
                return super()._generate_and_score_completions(inputs)
        finally:
            self.processing_class = None


class _Prompts(RepeatSampler):
    """TRL's sampler with an order of its own for each epoch, which a resumed run repeats."""

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each pass over the data."""
        self.generator.manual_seed(self.seed + epoch)


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
