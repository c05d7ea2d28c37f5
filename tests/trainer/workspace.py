"""A workspace as a pod has one, and runs of the trainer in it: in this process, where imports are paid once, or as the
process that a pod starts."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from model_garden.contract.defaults import effective_spec, merge
from model_garden.contract.names import CONFIG_ENV
from model_garden.contract.progress import CheckpointEvent, Event, Outcome, ProgressEvent, ResumedEvent, WarningEvent
from model_garden.contract.spec import TrainingJobSpec
from model_garden.contract.trainer_config import TrainerConfig

DATA = Path(__file__).parents[2] / "data"
VISION = {"isVision": True, "baseModel": "./models/qwen2_5_vl", "datasetPath": "./data/vision_test_dataset.jsonl"}
TEXT = {"baseModel": "./models/qwen2", "datasetPath": "./data/text_test_dataset.jsonl"}
QUICK = {"hyperparameters": {"learningRate": 5e-3, "batchSize": 2, "gradientAccumulationSteps": 2, "warmupSteps": 1}}


def config(name: str, *parts: dict[str, Any]) -> TrainerConfig:
    """A job's config for a machine without a GPU, of spec fragments laid over each other."""
    spec: dict[str, Any] = {}
    for part in parts:
        spec = merge(spec, part)
    return TrainerConfig(name=name, spec=effective_spec(TrainingJobSpec.model_validate(spec), name, local_gpus=0))


@cache
def import_the_training_stack() -> None:
    """What each run of this process needs. A run collects garbage four times: of its own, not of all these modules."""
    from model_garden_trainer import run, verify  # noqa: F401
    from model_garden_trainer.methods import sft  # noqa: F401

    gc.freeze()


@dataclass
class Told:
    """What a run reported."""

    events: list[Event] = field(default_factory=list)
    on_event: Callable[[Event], None] = lambda event: None

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self.on_event(event)

    @property
    def losses(self) -> dict[int, float]:
        return {e.progress.step: e.progress.loss for e in self._progress if e.progress.loss is not None}

    @property
    def eval_losses(self) -> dict[int, float]:
        return {e.progress.step: e.progress.eval_loss for e in self._progress if e.progress.eval_loss is not None}

    @property
    def checkpoints(self) -> list[int]:
        return [event.step for event in self.events if isinstance(event, CheckpointEvent)]

    @property
    def resumed(self) -> list[int]:
        return [event.step for event in self.events if isinstance(event, ResumedEvent)]

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, WarningEvent)]

    @property
    def _progress(self) -> list[ProgressEvent]:
        return [event for event in self.events if isinstance(event, ProgressEvent)]


@dataclass
class Workspace:
    """A folder with ``data`` and ``models``, which is the working directory."""

    folder: Path

    def train(
        self,
        job: TrainerConfig,
        *,
        requests: Any = None,
        on_event: Callable[[Event], None] | None = None,
        sample_rows: int = 1,
    ) -> tuple[Outcome, Told]:
        """Run a job in this process; outputs are verified in it too, by ``sample_rows`` answers: ten, as usual, would
        take half of the time of a test."""
        import_the_training_stack()
        from model_garden_trainer.engine.stopping import StopRequests
        from model_garden_trainer.engine.watchdog import Watchdog
        from model_garden_trainer.exports import sample_answers
        from model_garden_trainer.run import train
        from model_garden_trainer.verify import verify

        told = Told()
        if on_event:
            told.on_event = on_event

        def hung(message: str) -> None:
            raise AssertionError(message)

        watchdog = Watchdog(3600, 3600, hung)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sample_answers, "ROWS", sample_rows)
            return train(job, told, requests or StopRequests(), watchdog, verify=verify), told

    def process(self, job: TrainerConfig | str, **environment: str) -> subprocess.Popen[str]:
        """Start a job as a pod does."""
        text = job if isinstance(job, str) else job.model_dump_json(by_alias=True, exclude_none=True)
        (self.folder / "termination-log").touch()
        with (self.folder / "said").open("w") as said:  # the child holds a descriptor of its own
            return subprocess.Popen(
                [sys.executable, "-m", "model_garden_trainer"],
                cwd=self.folder,
                env=os.environ | {CONFIG_ENV: text} | environment,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )

    def said(self) -> str:
        """What a process wrote for people."""
        return (self.folder / "said").read_text()

    def adapter(self, name: str) -> dict[str, Any]:
        """The adapter weights of an output."""
        from safetensors.torch import load_file

        return load_file(self.folder / "models" / name / "adapter_model.safetensors")

    def record(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "models" / name / "training_config.json").read_text())
        return content

    def metrics(self, name: str) -> list[dict[str, Any]]:
        """The lines of steps and of an evaluation; the last line, of the sample answers, aside."""
        lines = (self.folder / "models" / name / "metrics.jsonl").read_text().splitlines()
        return [line for line in map(json.loads, lines) if "samples" not in line]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two sets of weights are equal to the last bit."""
    import torch

    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def stop_at(step: int, requests: Any) -> Callable[[Event], None]:
    """An observer that asks to stop, as SIGTERM would, once ``step`` was reported."""

    def observe(event: Event) -> None:
        if isinstance(event, ProgressEvent) and event.progress.step == step:
            requests.stop = True

    return observe


@pytest.fixture
def workspace(tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An empty workspace but for the test data and tiny models, which are linked."""
    (tmp_path / "models").mkdir()
    shutil.copytree(DATA, tmp_path / "data")
    for kind in ("qwen2_5_vl", "qwen2"):
        (tmp_path / "models" / kind).symlink_to(tiny_model(kind))
    monkeypatch.chdir(tmp_path)
    return Workspace(tmp_path)
