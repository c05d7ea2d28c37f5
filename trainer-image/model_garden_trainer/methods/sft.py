"""Supervised fine-tuning: TRL's SFTTrainer on batches of the Collator, with the loss taken on the answers alone.

TRL's own preparation of rows is switched off: the Collator renders, masks and batches them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trl import SFTConfig, SFTTrainer  # Unsloth's patched one where that backend is loaded: it is imported first

from model_garden.datasets import Example
from model_garden_trainer.batches import packing
from model_garden_trainer.batches.collator import Collator
from model_garden_trainer.batches.loading import Batches
from model_garden_trainer.batches.splits import Data
from model_garden_trainer.batches.vision_inputs import WithVisionInputs, keep_from_language_model, unwrapped
from model_garden_trainer.engine.batch_size import Split
from model_garden_trainer.engine.context import Run, Trained
from model_garden_trainer.engine.fit import fit
from model_garden_trainer.engine.instrumented import Instrumented
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.methods.answer_loss import AnswerLoss
from model_garden_trainer.methods.finished_batches import FinishedBatches, numbers, run_arguments

Collate = Callable[[list[Example]], Any]
"""Makes a batch of rows."""


class TextTrainer(Instrumented, AnswerLoss, FinishedBatches, SFTTrainer):
    """Fine-tunes a model on rows of text.

    Args:
        model: the base model with fresh adapters.
        encoder: makes batches of rows.
        training: rows to train on.
        validation: rows to evaluate on; empty for no evaluation.
        packed: makes packed steps of the rows to train on; None for batches of ``encoder``. An evaluation is never
            packed.
        options: ``args``, and those of the mixins.
    """

    def __init__(
        self,
        *,
        model: Any,
        encoder: Collator,
        training: Any,
        validation: Any = (),
        packed: Collate | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            model=model,
            processor=encoder.processor,
            data_collator=Batches(training, packed or self.collator(encoder, model)),
            eval_collator=Batches(validation, self.collator(encoder.for_evaluation(), model)),
            train_dataset=numbers(len(training)),
            eval_dataset=numbers(len(validation)) if len(validation) else None,
            **options,
        )
        if hasattr(self.model, "for_training"):  # Unsloth's constructor leaves the model ready for inference
            self.model.for_training()

    @staticmethod
    def collator(encoder: Collator, model: Any) -> Collate:  # noqa: ARG004  images need the model
        """What makes batches of rows: ``encoder``."""
        return encoder


class VisionLanguageTrainer(TextTrainer):
    """Fine-tunes a vision-language model on rows of images and text.

    On the unsloth backend, ``encoder`` makes its batches with UnslothVisionDataCollator.
    """

    def __init__(self, *, model: Any, **options: Any) -> None:
        keep_from_language_model(model)
        super().__init__(model=model, **options)

    @staticmethod
    def collator(encoder: Collator, model: Any) -> Collate:
        """``encoder``, and what the vision tower computes of the sizes of images."""
        return WithVisionInputs(encoder, unwrapped(model).config)


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
    trainer_class = VisionLanguageTrainer if run.spec.vision else TextTrainer
    encoder = run.backend.collator(encoder, model)
    collate = trainer_class.collator(encoder, model)

    def trainer_of(split: Split) -> TextTrainer:
        loaded, packed = split, None
        if run.h.packing:
            packed = _packed(run, model, encoder, split.micro_batch)
            loaded = Split(split.micro_batch * split.accumulation, 1)
        return trainer_class(
            model=model,
            encoder=encoder,
            training=data.training,
            validation=data.validation,
            packed=packed,
            model_has_own_loss=run.backend.OWN_LOSS,
            health=run.spec.health,
            report=run.report,
            team=run.team,
            args=settings(**run_arguments(run, data, split, loaded)),
        )

    return fit(run, model, trainer_of, lambda size: collate([longest] * size))


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
