"""The loss of supervised fine-tuning: cross entropy of the answers alone, over all micro-batches of an optimizer step.

It replaces TRL's, which computes the entropy and the accuracy of all tokens besides, from logits as wide as the
vocabulary.
"""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from typing import Any

import torch
from transformers import Trainer

from model_garden_trainer.batches.collator import IGNORED
from model_garden_trainer.batches.vision_inputs import unwrapped


class AnswerLoss(Trainer):
    """A mixin: name it before the trainer whose loss it replaces. A batch may be a packed step.

    Args:
        model_has_own_loss: leave the loss to the model.
        options: those of the trainer.
    """

    def __init__(self, *, model_has_own_loss: bool, **options: Any) -> None:
        super().__init__(**options)
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


def _trained_tokens(labels: torch.Tensor) -> torch.Tensor:
    """How many tokens of a batch (rows x length) carry loss; the first of a row is never predicted."""
    return (labels[:, 1:] != IGNORED).sum()
