"""The process that a pod starts: events on stdout, the outcome in the termination message, the exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from model_garden.contract.names import TERMINATION_ENV
from model_garden.contract.progress import CheckpointEvent, Event, ProgressEvent, StageEvent, parse_event, parse_outcome
from tests.trainer.workspace import QUICK, TEXT, VISION, Workspace, config

pytestmark = pytest.mark.train


def until(process: subprocess.Popen[str], wanted: Callable[[Event], bool]) -> list[Event]:
    """Events of a process up to one that is wanted; all of them where none is."""
    events = []
    assert process.stdout is not None
    for line in process.stdout:
        event = parse_event(line)
        assert event is not None, f"stdout holds a line that is no event: {line!r}"
        events.append(event)
        if wanted(event):
            return events
    return events


def outcome_of(workspace: Workspace) -> dict[str, object]:
    outcome = parse_outcome((workspace.folder / "termination-log").read_text())
    assert outcome is not None
    return outcome.to_dict()


def test_the_mission_s_own_run(workspace: Workspace) -> None:
    (workspace.folder / "cache").mkdir()
    job = config("test", VISION, {"outputDir": "./models/test-vision-model", "hyperparameters": {"maxSteps": 3}})
    with workspace.process(job) as process:
        events = until(process, lambda _: False)
    assert process.returncode == 0
    assert [e.progress.step for e in events if isinstance(e, ProgressEvent)] == [1, 2, 3]
    outcome = outcome_of(workspace)
    output = outcome["output"]
    assert isinstance(output, dict)
    assert (outcome["result"], output["path"], output["verified"]) == ("Succeeded", "./models/test-vision-model", True)
    written = {path.name for path in (workspace.folder / "models/test-vision-model").iterdir()}
    assert written >= {
        "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "metrics.jsonl", "README.md",
        "processor_config.json", "tokenizer.json", "training_config.json",
    }  # fmt: skip
    outside = {path.name for path in workspace.folder.iterdir()}
    assert outside == {"cache", "data", "models", "termination-log", "said"}  # nothing is left elsewhere


def test_sigterm_checkpoints_at_that_step(workspace: Workspace) -> None:
    with workspace.process(config("long", TEXT, QUICK, {"hyperparameters": {"maxSteps": 9000}})) as process:
        until(process, lambda event: isinstance(event, ProgressEvent) and event.progress.step == 2)
        process.send_signal(signal.SIGTERM)
        last = until(process, lambda _: False)[-1]
    assert process.returncode == 143
    assert isinstance(last, CheckpointEvent)
    outcome = outcome_of(workspace)
    assert (outcome["result"], outcome["exitCode"], outcome["checkpointStep"]) == ("Stopped", 143, last.step)
    assert (workspace.folder / f"models/long/checkpoints/checkpoint-{last.step}/complete.json").exists()


def test_sigterm_ends_a_loading_process_at_once(workspace: Workspace) -> None:
    with workspace.process(config("loading", TEXT, QUICK)) as process:
        until(process, lambda event: isinstance(event, StageEvent))
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 143
    assert outcome_of(workspace) == {"result": "Stopped", "exitCode": 143, "stoppedEarly": False}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "name: required field is missing"),
        ('{"name": "x", "spec": {"baseModel": "a/b", "datasetPath": "./d", "epochs": 3}}', "spec.epochs: unknown"),
        ("not json", "JSON"),
    ],
)
def test_a_config_that_cannot_be_read_ends_with_2(workspace: Workspace, text: str, message: str) -> None:
    with workspace.process(text) as process:
        pass
    assert process.returncode == 2
    outcome = outcome_of(workspace)
    assert outcome["reason"] == "InvalidSpec" and message in str(outcome["message"])
    assert message in workspace.said()


def test_an_unexpected_error_is_one_sentence_and_its_traceback_is_in_a_file(workspace: Workspace) -> None:
    (workspace.folder / "models/out/metrics.jsonl").mkdir(parents=True)  # where a file belongs
    with workspace.process(config("out", TEXT, {"hyperparameters": {"maxSteps": 1}})) as process:
        until(process, lambda _: False)
    assert process.returncode == 1
    outcome = outcome_of(workspace)
    assert outcome["reason"] == "TrainerError"
    assert "IsADirectoryError" in str(outcome["message"]) and "models/out-traceback.log" in str(outcome["message"])
    assert "Traceback" not in workspace.said()
    assert "Traceback" in (workspace.folder / "models/out-traceback.log").read_text()


def test_a_working_directory_that_is_gone_is_one_sentence(workspace: Workspace) -> None:
    script = 'mkdir gone; cd gone; rmdir ../gone; exec "$0" -P -m model_garden_trainer'
    environment = os.environ | {TERMINATION_ENV: str(workspace.folder / "termination-log")}
    command = ["sh", "-c", script, sys.executable]
    done = subprocess.run(command, cwd=workspace.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FileNotFoundError" in str(outcome_of(workspace)["message"])
    assert "Traceback" not in done.stderr


def test_a_run_that_makes_no_step_in_time_ends_to_be_retried(workspace: Workspace) -> None:
    rows = workspace.folder / "data" / "long.jsonl"
    rows.write_text((json.dumps({"text": "word " * 1000}) + "\n") * 200)
    part = {
        "datasetPath": "./data/long.jsonl",
        "hyperparameters": {"maxSeqLength": 8192, "batchSize": 1, "gradientAccumulationSteps": 200},
        "health": {"firstStepSeconds": 1},
    }
    with workspace.process(config("slow", TEXT, part)) as process:
        assert not any(isinstance(event, ProgressEvent) for event in until(process, lambda _: False))
    assert process.returncode == 1
    outcome = outcome_of(workspace)
    assert outcome["reason"] == "StepTimeout" and "health.firstStepSeconds" in str(outcome["message"])
    assert "run.py" in workspace.said()  # the stack says where it hung
