"""Supervised fine-tuning: TRL's SFTTrainer on batches of the Collator, with the loss taken on the answers alone.

TRL's own preparation of rows is switched off: the Collator renders, masks and batches them. TRL's loss is replaced too:
it computes the entropy and the accuracy of all tokens besides, from logits as wide as the vocabulary.
"""

from __future__ import annotations

import inspect
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer
from trl import SFTConfig, SFTTrainer

from model_garden.datasets import Example
from model_garden_trainer.batches import packing
from model_garden_trainer.batches.collator import IGNORED, Collator
from model_garden_trainer.batches.loading import Batches
from model_garden_trainer.batches.splits import Data
from model_garden_trainer.batches.vision_inputs import WithVisionInputs, keep_from_language_model, unwrapped
from model_garden_trainer.engine.arguments import arguments
from model_garden_trainer.engine.batch_size import Split
from model_garden_trainer.engine.context import Run, Trained
from model_garden_trainer.engine.fit import fit
from model_garden_trainer.engine.instrumented import Instrumented
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.methods.finished_batches import FinishedBatches, numbers, workers


def train(run: Run, model: Any, encoder: Collator, data: Data, *, longest: Example) -> Trained:
    """Train the adapters of ``model``, which holds the best weights afterwards where there were evaluations.

    Args:
        run: what to train and where to.
        model: the base model with fresh adapters.
        encoder: makes batches of examples.
        data: rows to train on and to evaluate on.
        longest: an example of the greatest length, by which the batch size is found.

    Raises:
        TrainingError, Stopped: see ``fit``.
    """

    encoder = run.backend.collator(encoder, model)
    keep_from_language_model(model)
    config = unwrapped(model).config

    def trainer_of(split: Split) -> AnswerTrainer:
        return _trainer(run, model, encoder, data, split)

    return fit(run, model, trainer_of, lambda size: WithVisionInputs(encoder, config)([longest] * size))


class _AnswerLoss(FinishedBatches, SFTTrainer):
    """SFTTrainer with the loss of the answers and with packed steps.

    Args:
        model_has_own_loss: leave the loss to the model.
        options: those of ``FinishedBatches``. An evaluation is never packed.
    """

    def __init__(self, *, model_has_own_loss: bool, **options: Any) -> None:
        super().__init__(**options)
        if hasattr(self.model, "for_training"):  # Unsloth's constructor leaves the model ready for inference
            self.model.for_training()
        self.model_accepts_loss_kwargs = True  # the loss is a sum over tokens divided by those of the whole step
        self._loss_shifts_labels = True
        self._own_loss = not model_has_own_loss
        self._takes_positions = "logits_to_keep" in inspect.signature(unwrapped(self.model).forward).parameters

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward of one micro-batch, or of all those of a packed step."""
        losses = []
        parts = inputs.get("micro_batches", [inputs])
        for number, part in enumerate(parts, 1):
            # Processes exchange gradients once a step: they may have packed it into different numbers of parts.
            apart = nullcontext() if number == len(parts) else self.accelerator.no_sync(model)
            with apart:
                losses.append(super().training_step(model, part, num_items_in_batch))
        return torch.stack(losses).sum()

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Cross entropy summed over trained tokens, divided by ``num_items_in_batch``.

        That is the number of trained tokens in all micro-batches of the step, so that splitting a batch changes
        nothing; without it, those of this batch.

        Logits are computed only at positions that some row of the batch trains. An image has a thousand tokens and
        trains none; each would cost memory of the vocabulary's width.
        """
        if not self._own_loss:  # and not SFTTrainer's, which reads logits that Unsloth's kernel does not make
            return Trainer.compute_loss(self, model, inputs, return_outputs, num_items_in_batch=num_items_in_batch)
        targets = inputs["labels"][:, 1:]
        positions = (targets != IGNORED).any(dim=0).nonzero().squeeze(1)
        options = {key: value for key, value in inputs.items() if key != "labels"}
        if self._takes_positions:
            options["logits_to_keep"] = positions
        outputs = model(**options, use_cache=False)
        logits = outputs.logits if self._takes_positions else outputs.logits[:, positions]
        targets = targets[:, positions]
        total = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        if num_items_in_batch is None:
            loss = total / (targets != IGNORED).sum()
        else:
            loss = total / num_items_in_batch * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def evaluation_loop(self, *args: Any, **options: Any) -> Any:
        """The evaluation, whose loss is the mean over all trained tokens, however they were batched."""
        self._evaluated = torch.zeros(2, dtype=torch.float64)
        output = super().evaluation_loop(*args, **options)
        loss, tokens = self._evaluated.tolist()
        output.metrics[f"{options.get('metric_key_prefix', 'eval')}_loss"] = loss / tokens
        return output

    def prediction_step(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> tuple[Any, None, None]:
        """The mean loss over the trained tokens of the batches that all processes take at once."""
        inputs = self._prepare_inputs(inputs)
        inputs["labels"] = inputs["labels"].clone()
        inputs["labels"][self._new_rows(len(inputs["labels"])) :] = IGNORED
        tokens = self.accelerator.reduce(_trained_tokens(inputs["labels"]), "sum")
        with torch.no_grad():
            loss = self.accelerator.reduce(self.compute_loss(model, inputs, num_items_in_batch=tokens), "mean")
        self._evaluated += torch.tensor([float(loss) * float(tokens), float(tokens)], dtype=torch.float64)
        return loss, None, None

    def _new_rows(self, count: int) -> int:
        """How many of this process's ``count`` rows are new: the last batches of several processes are filled up with
        earlier rows."""
        state = self.accelerator.gradient_state
        if self.accelerator.num_processes == 1 or not state.end_of_dataloader or state.remainder <= 0:
            return count
        remainder: int = state.remainder - self.accelerator.process_index * count
        return min(count, max(0, remainder))


class AnswerTrainer(Instrumented, _AnswerLoss):
    """The trainer of a run: the loss of the answers, instrumented."""


def _trainer(run: Run, model: Any, encoder: Collator, data: Data, split: Split) -> AnswerTrainer:
    evaluated = len(data.validation) > 0
    config = unwrapped(model).config
    collate: Any = WithVisionInputs(encoder, config)
    loader_batch, accumulation = split.micro_batch, split.accumulation
    if run.h.packing:
        loader_batch, accumulation = split.micro_batch * split.accumulation, 1
        collate = _packed(run, model, encoder, split.micro_batch)
    args = settings(
        **arguments(
            run.h,
            checkpoints=str(run.root),
            evaluated=evaluated,
            micro_batch=loader_batch,
            eval_batch=split.micro_batch,
            accumulation=accumulation,
            workers=workers(run.team),
            some_may_be_unused=run.backend.SOME_MAY_BE_UNUSED,
        )
    )
    return AnswerTrainer(
        model=model,
        processor=encoder.processor,
        model_has_own_loss=run.backend.OWN_LOSS,
        health=run.spec.health,
        report=run.report,
        team=run.team,
        args=args,
        data_collator=Batches(data.training, collate),
        eval_collator=Batches(data.validation, WithVisionInputs(encoder.for_evaluation(), config)),
        train_dataset=numbers(len(data.training)),
        eval_dataset=numbers(len(data.validation)) if evaluated else None,
    )


def settings(**options: Any) -> SFTConfig:
    """SFTTrainer's settings, with everything off that it would do to rows and to the loss."""
    return SFTConfig(
        **options,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        packing=False,
        padding_free=False,
        loss_type="nll",  # the default patches the model's forward
        router_aux_loss_coef=0.0,  # else a mixture of experts returns router logits, which this loss does not use
    )


def check_packing(folder: Path) -> None:
    """Refuse ``packing`` for a model whose losses were not shown to be equal with it, before its weights are loaded.

    Raises:
        TrainingError: InvalidSpec.
    """
    kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    _refuse(packing.refusal(kind, None))


def _packed(run: Run, model: Any, encoder: Collator, rows: int) -> packing.PackedSteps:
    config = unwrapped(model).config
    # Only the loaded model knows its attention: a backend chooses it by what is installed.
    _refuse(packing.refusal(config.model_type, config.get_text_config()._attn_implementation))
    return packing.PackedSteps(
        encoder,
        capacity=run.h.max_seq_length,
        rows=rows,
        pad_token_id=encoder.tokenizer.pad_token_id,
        config=config,
    )


def _refuse(refusal: str | None) -> None:
    if refusal:
        raise TrainingError("InvalidSpec", refusal)


def _trained_tokens(labels: torch.Tensor) -> torch.Tensor:
    """How many tokens of a batch (rows x length) carry loss; the first of a row is never predicted."""
    return (labels[:, 1:] != IGNORED).sum()
