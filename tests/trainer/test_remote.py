"""Jobs whose data and model are in remote storage: preflight and training as the processes that pods start."""

from __future__ import annotations

import os
import subprocess
import sys

from model_garden.contract.names import CONFIG_ENV
from model_garden.contract.progress import Outcome, parse_outcome
from model_garden.contract.trainer_config import TrainerConfig
from tests.remote.conftest import bucket, s3_endpoint, web
from tests.remote.servers import Web
from tests.trainer.workspace import QUICK, VISION, Workspace, config

__all__ = ["bucket", "s3_endpoint", "web"]

STEPS = {"hyperparameters": {"maxSteps": 2}}


def ran(workspace: Workspace, job: TrainerConfig, *step: str, cache: bool = True) -> tuple[Outcome, str]:
    """Run a step of a job as its pod does; its outcome, and all that it said."""
    log = workspace.folder / "termination-log"
    log.write_text("")
    if cache:
        (workspace.folder / "cache").mkdir(exist_ok=True)
    environment = os.environ | {CONFIG_ENV: job.model_dump_json(by_alias=True, exclude_none=True)}
    environment.pop("XDG_CACHE_HOME", None)
    command = [sys.executable, "-m", "model_garden_trainer", *step]
    done = subprocess.run(command, cwd=workspace.folder, env=environment, capture_output=True, text=True, check=False)
    outcome = parse_outcome(log.read_text())
    assert outcome, done.stderr[-3000:]
    return outcome, done.stdout + done.stderr + log.read_text()


def test_a_data_set_of_a_web_server_is_checked_and_trained_on(workspace: Workspace, web: Web) -> None:
    for path in (workspace.folder / "data").rglob("*"):
        if path.is_file():
            web.files[f"/sets/{path.relative_to(workspace.folder / 'data').as_posix()}"] = path.read_bytes()
    remote = {"datasetPath": f"{web.url}/sets/vision_test_dataset.jsonl", "storage": {"cacheClaim": "cache"}}
    job = config("shapes", VISION, QUICK, STEPS, remote)
    checked, told = ran(workspace, job, "preflight")
    assert checked.result == "Succeeded", told
    assert checked.fetched and set(checked.fetched) == {"datasetPath"}
    web.files.clear()  # training reads what the preflight fetched, and asks no server
    trained, told = ran(workspace, job.model_copy(update={"fetched": checked.fetched}))
    assert trained.result == "Succeeded", told
    assert workspace.record("shapes")["verification"]["row"].startswith(f"{web.url}/sets/")
