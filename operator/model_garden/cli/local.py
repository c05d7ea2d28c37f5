"""``train``, ``train-vision`` and ``run``: a TrainingJob on this machine, without a cluster."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

from model_garden.cli.output import print_json
from model_garden.cli.report import print_failure, print_result
from model_garden.cli.spec_flags import named_by_flag, parse_sets
from model_garden.cli.trainer_process import run_trainer
from model_garden.contract.defaults import effective_spec, merge
from model_garden.contract.trainer_config import TrainerConfig
from model_garden.local.process import gpus
from model_garden.services.errors import MissingPackages
from model_garden.services.manifest import Job, job_from_spec, read_job


def train_from_flags(flags: dict[str, Any], sets: list[str] | None, *, vision: bool, output: str) -> None:
    """Train what the flags describe, and exit with the trainer's exit code."""
    kind = {"isVision": True} if vision else {}
    with named_by_flag():
        job = job_from_spec(merge(merge(kind, flags), parse_sets(sets)))
    run_job(job, output=output)


def run_file(file: str, sets: list[str] | None, *, output: str) -> None:
    """Train what a file describes, and exit with the trainer's exit code."""
    run_job(read_job(file, parse_sets(sets)), output=output)


NO_TRAINER = "training needs the trainer's packages: pip install 'model-garden[trainer]'"


def has_trainer() -> bool:
    """Whether the packages that train are installed."""
    return find_spec("torch") is not None


def run_job(job: Job, *, output: str) -> None:
    """Run the trainer, show its progress, print the outcome, and exit with the trainer's exit code.

    Raises:
        MissingPackages: torch is not installed.
    """
    if not has_trainer():
        raise MissingPackages(NO_TRAINER)
    spec = effective_spec(job.spec, job.name, local_gpus=gpus())
    run = run_trainer(TrainerConfig(name=job.name, spec=spec))
    print_failure(run)
    if output == "json":
        print_json(run.outcome.to_dict() if run.outcome else {"result": "Failed", "exitCode": run.exit_code})
    else:
        print_result(run, vision=spec.vision)
    sys.exit(run.exit_code)
