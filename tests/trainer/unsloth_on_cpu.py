"""Runs jobs with Unsloth's real classes on a machine without a GPU, in a process of its own: for tests alone.

python -m tests.trainer.unsloth_on_cpu CONFIG.json...   prints one line of JSON for each job
"""

# ruff: noqa: I001  what patches the libraries is imported first
from __future__ import annotations

import testing.unsloth_on_cpu  # noqa: F401
import torch
from unsloth.trainer import UnslothVisionDataCollator

import sys
import json
from pathlib import Path
from typing import Any

from model_garden.contract.progress import ProgressEvent
from model_garden.contract.trainer_config import TrainerConfig, parse_config
from model_garden_trainer import run
from model_garden_trainer.exports import outputs
from model_garden_trainer.models.backends import unsloth as backend
from model_garden_trainer.batches.splits import open_data
from model_garden_trainer.errors import Stopped
from model_garden_trainer.engine.instrumented import Instrumented
from model_garden_trainer.engine.watchdog import Watchdog
from model_garden_trainer.engine.stopping import StopRequests
from model_garden_trainer.models import auto_classes


def train(config: TrainerConfig, stop_after: int | None = None) -> dict[str, Any]:
    """Run a job; with ``stop_after`` only to that step."""
    losses, requests = {}, StopRequests()

    def report(event: Any) -> None:
        if isinstance(event, ProgressEvent):
            losses[event.progress.step] = event.progress.loss
            requests.stop = requests.stop or event.progress.step == stop_after

    try:
        check = outputs.verify if config.spec.save_method == "merged_16bit" else unchecked
        outcome = run.train(config, report, requests, Watchdog(3600, 3600, print), verify=check)
    except Stopped as stopped:
        return {"stopped": stopped.checkpoint_step, "losses": losses}
    return {"result": outcome.result, "losses": losses}


def modules_left_out(config: TrainerConfig) -> list[str]:
    """Train, and name the modules that were not in training mode in the forward pass of a training batch."""
    found, original = set(), Instrumented.compute_loss

    def watched(self: Any, *args: Any, **options: Any) -> Any:
        if self.model.training:
            found.update(name for name, module in self.model.named_modules() if not module.training)
        return original(self, *args, **options)

    Instrumented.compute_loss = watched
    train(config)
    Instrumented.compute_loss = original
    return sorted(found)


def unchecked(*_: Any) -> dict[str, Any]:
    """Stands in for the fresh process that checks an output: one of the jobs starts it, which is enough."""
    return {"row": "", "answer": ""}


def collators(config: TrainerConfig) -> dict[str, Any]:
    """A batch of the backend's collator beside one of the encoder, and how often images were processed for it."""
    spec, folder = config.spec, Path(config.spec.base_model).resolve()
    encoder = auto_classes.collator(spec, folder)
    made = backend.collator(encoder, backend.load_model(spec, folder))
    training = open_data(spec, 0).training
    examples = [training[index] for index in range(4)]
    ours = encoder(examples)
    processed, kind = [], type(made.processor.image_processor)
    process = kind.__call__

    def count(self: Any, images: Any, *args: Any, **options: Any) -> Any:
        processed.append(sum(map(len, images)))
        return process(self, images, *args, **options)

    kind.__call__ = count
    theirs = made(examples)
    kind.__call__ = process
    return {
        "unsloth": isinstance(made._make, UnslothVisionDataCollator),
        "different": [name for name in {*ours, *theirs} if not torch.equal(ours[name], theirs[name])],
        "processed": processed,
    }


def tower_passes(config: TrainerConfig) -> dict[str, int]:
    """How often the first block of the frozen vision tower runs forward and backward in one training batch."""
    spec, folder = config.spec, Path(config.spec.base_model).resolve()
    encoder, passes = auto_classes.collator(spec, folder), {"forward": 0, "backward": 0}
    model = backend.add_lora(backend.load_model(spec, folder), spec)

    def count(kind: str) -> Any:
        passes[kind] += 1

    block = model.get_base_model().model.visual.blocks[0]
    block.register_forward_hook(lambda *_: count("forward"))
    block.register_full_backward_hook(lambda *_: count("backward"))
    training = open_data(spec, 0).training
    model(**encoder([training[0], training[1]]), use_cache=False).loss.backward()
    assert any(parameter.grad is not None for parameter in model.parameters())
    return passes


def main() -> None:
    """``whole`` and ``broken`` are the same vision job under two names, ``text`` and ``answering`` text jobs."""
    whole, broken, text, answering = (parse_config(Path(path).read_text()) for path in sys.argv[1:])
    found = {
        "whole": train(whole),
        "broken": train(broken, stop_after=2),
        "resumed": train(broken),
        "text": train(text),
        "modules left out": modules_left_out(answering),
        "collators": collators(whole),
        "tower": tower_passes(whole),
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
