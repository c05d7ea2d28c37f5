"""The trainer as a process, as a pod starts it: what several benchmarks measure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from model_garden.contract.defaults import effective_spec, merge
from model_garden.contract.names import CONFIG_ENV
from model_garden.contract.spec import TrainingJobSpec
from model_garden.contract.trainer_config import TrainerConfig


def vision_job(name: str, part: dict[str, Any]) -> TrainerConfig:
    """A job that trains ./models/tiny on images without a GPU, with ``part`` laid over its spec."""
    spec = merge({"isVision": True, "baseModel": "./models/tiny", "outputDir": f"./models/{name}"}, part)
    return TrainerConfig(name=name, spec=effective_spec(TrainingJobSpec.model_validate(spec), name, local_gpus=0))


def start(workspace: Path, job: TrainerConfig) -> subprocess.Popen[str]:
    """A trainer that runs ``job`` in ``workspace``; its events are lines of ``stdout``."""
    return subprocess.Popen(
        [sys.executable, "-m", "model_garden_trainer"],
        cwd=workspace,
        env=os.environ | {CONFIG_ENV: job.model_dump_json(by_alias=True, exclude_none=True)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
