"""The training methods, a module each: which trainer of TRL it extends, its loss, its batches, and ``train``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model_garden.datasets import Example
    from model_garden_trainer.batches.collator import Collator
    from model_garden_trainer.batches.splits import Data
    from model_garden_trainer.engine.context import Run, Trained


def train(run: Run, model: Any, encoder: Collator, data: Data, longest: Example) -> Trained:
    """Train ``model`` by the method of the job."""
    # Each method imports its own trainer of TRL: that of GRPO imports whole tracking services, seconds of each start.
    match run.spec.method:
        case "sft":
            from model_garden_trainer.methods import sft

            return sft.train(run, model, encoder, data, longest=longest)
        case "grpo":
            from model_garden_trainer.methods import grpo

            return grpo.train(run, model, encoder, data, longest)
        case "dpo":
            from model_garden_trainer.methods import comparing, dpo

            return comparing.train(dpo.METHOD, run, model, encoder, data, longest)
        case "kto":
            from model_garden_trainer.methods import comparing, kto

            return comparing.train(kto.METHOD, run, model, encoder, data, longest)
        case "orpo":
            from model_garden_trainer.methods import comparing, orpo

            return comparing.train(orpo.METHOD, run, model, encoder, data, longest)
