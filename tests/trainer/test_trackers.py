"""Trackers that get the figures of a run: real servers and files, read back; servers that are down; resumed runs."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import struct
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model_garden_trainer.engine import callbacks
from model_garden_trainer.engine.stopping import StopRequests
from model_garden_trainer.errors import Stopped, TrainingError
from model_garden_trainer.trackers import tracking
from tests.trainer.workspace import QUICK, TEXT, Told, Workspace, config

pytestmark = pytest.mark.train

MLFLOW = Path(__file__).parents[2] / ".venv-mlflow" / "bin" / "python"
SECRET = "secret-of-this-test-0123456789"
STEPS = {"hyperparameters": {"maxSteps": 4, "evalSteps": 2}, "validationFraction": 0.25}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "MLFLOW_TRACKING_URI", "TRACKIO_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tracking, "END_SECONDS", 300)  # this machine may be busy


class MlflowServer:
    """A real MLflow server with a database, whose port is taken before it starts and refuses until then."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.taken = folder, socket.socket()
        self.taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server may listen beside one that does not
        self.taken.bind(("127.0.0.1", 0))
        self.port: int = self.taken.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [MLFLOW, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        storage = ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db", "--artifacts-destination", self.folder]
        quick = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *storage], env=quick, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 300
        while not self._answers():
            assert time.monotonic() < deadline and self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            return urllib.request.urlopen(f"{self.url}/health", timeout=1).status == 200
        except OSError:
            return False

    def stop(self) -> None:
        if self.process:
            os.killpg(self.process.pid, 9)
            self.process.wait()
        self.taken.close()

    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(self.url)

    def runs(self, project: str = "default") -> list[Any]:
        found = self.client().get_experiment_by_name(project)
        return list(self.client().search_runs([found.experiment_id])) if found else []

    def curve(self, run: Any, figure: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in self.client().get_metric_history(run.info.run_id, figure)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    if not MLFLOW.exists():
        pytest.skip("make .venv/.tests installs the MLflow server")
    found = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    found.start()
    yield found
    found.stop()


def losses(told: Told) -> list[tuple[int, float]]:
    return list(told.losses.items())


def trackers_of(outcome: Any) -> dict[str, Any]:
    return {one.name: one for one in outcome.output.trackers or ()}


def test_each_tracker_has_the_figures_and_the_settings_of_the_run(
    workspace: Workspace, server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    job = config("all", TEXT, QUICK, STEPS, {"reportTo": ["mlflow", "wandb", "tensorboard", "trackio"]})
    outcome, told = workspace.train(job)
    output = workspace.folder / "models" / "all"
    expected = losses(told)
    assert len(expected) == 4

    shown = trackers_of(outcome)
    (run,) = server.runs()
    assert run.info.run_name == "all" and run.info.status == "FINISHED"
    assert run.data.params["hyperparameters.learningRate"] == "0.005"
    assert server.curve(run, "loss") == expected
    assert server.curve(run, "evalLoss") == list(told.eval_losses.items())
    for figure in ("learningRate", "gradNorm", "tokensPerSecond"):
        assert len(server.curve(run, figure)) == 4
    assert shown["mlflow"].url.startswith(server.url) and shown["mlflow"].url.endswith(run.info.run_id)

    assert shown["tensorboard"].path == "./models/all/runs"
    assert event_files(output / "runs", "loss") == expected
    assert trackio_database(output, "loss") == expected
    assert wandb_file(output, "loss") == expected
    assert shown["wandb"].path == "./models/all/trackers/wandb"
    assert [warning.partition(":")[0] for warning in told.warnings] == ["wandb does not get the figures"]
    card = (output / "README.md").read_text()
    assert shown["mlflow"].url in card and "./models/all/runs" in card


def event_files(folder: Path, figure: str) -> list[tuple[int, float]]:
    """A figure in TensorBoard's event files, as TensorBoard itself reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    assert "spec" in "".join(found.Tags()["tensors"])
    return [(point.step, callbacks.rounded(point.value)) for point in found.Scalars(figure)]  # stored as float32


def trackio_database(output: Path, figure: str) -> list[tuple[int, float]]:
    (database,) = (output / "trackers" / "trackio").glob("*.db")
    with sqlite3.connect(database) as rows:
        found = rows.execute("select step, metrics from metrics order by step, id").fetchall()
    points = [(step, json.loads(metrics)) for step, metrics in found]
    return [(step, metrics[figure]) for step, metrics in points if figure in metrics]


def wandb_file(output: Path, figure: str) -> list[tuple[int, float]]:
    """A figure in the offline files of W&B, in the order of the attempts."""
    from wandb.proto.wandb_internal_pb2 import Record

    found: list[tuple[int, float]] = []
    folder = output / "trackers" / "wandb"
    for file in sorted(folder.glob("offline-run-*/*.wandb"), key=lambda one: one.stat().st_mtime):
        for data in leveldb_records(file.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                items = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
                if figure in items:
                    found.append((record.history.step.num, json.loads(items[figure])))
    return found


def leveldb_records(content: bytes) -> Iterator[bytes]:
    """The records of a file of W&B: 7 bytes, then a log of LevelDB (github.com/google/leveldb, doc/log_format.md)."""
    place, record = 7, b""
    while place + 7 <= len(content):
        if (room := 32768 - place % 32768) < 7:
            place += room
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def test_a_resumed_run_continues_the_runs_of_the_trackers(
    workspace: Workspace, server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    given = {"reportTo": ["mlflow", "wandb", "tensorboard", "trackio"], "tracking": {"project": "resumed"}}
    job = config("broken", TEXT, QUICK, STEPS, given, {"hyperparameters": {"saveSteps": 1}})
    requests = StopRequests()

    def stop(event: Any) -> None:
        if getattr(event, "event", "") == "progress" and event.progress.step == 2:
            requests.stop = True

    with pytest.raises(Stopped):
        workspace.train(job, requests=requests, on_event=stop)
    (run,) = server.runs("resumed")
    assert run.info.status == "KILLED"
    first = server.curve(run, "loss")
    assert 2 <= len(first) < 4
    _, told = workspace.train(job)
    output = workspace.folder / "models" / "broken"
    curve = first + [one for one in losses(told) if one[0] > first[-1][0]]
    assert [step for step, _ in curve] == [1, 2, 3, 4]
    (run,) = server.runs("resumed")
    assert run.info.status == "FINISHED"
    assert server.curve(run, "loss") == curve
    assert event_files(output / "runs", "loss") == curve
    assert trackio_database(output, "loss") == curve
    assert wandb_file(output, "loss") == curve
    assert len({file.stem for file in output.glob("trackers/wandb/*/*.wandb")}) == 1


def test_a_server_that_is_down_is_one_warning_and_gets_the_figures_later(
    workspace: Workspace, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not MLFLOW.exists():
        pytest.skip("make .venv/.tests installs the MLflow server")
    later = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    job = config("down", TEXT, QUICK, STEPS, {"reportTo": ["mlflow"], "tracking": {"uri": later.url}})
    outcome, told = workspace.train(job)
    assert outcome.result == "Succeeded" and outcome.output is not None and not outcome.output.trackers
    (warning,) = told.warnings
    assert warning.startswith("mlflow does not get the figures: ") and "metrics.jsonl" in warning
    assert all(SECRET not in path.read_text(errors="replace") for path in files(workspace.folder / "models" / "down"))
    assert SECRET not in repr(told.events)

    later.start()
    try:
        again, _ = workspace.train(job)  # the finished run trains no more, and sends what the tracker lacks
        (run,) = later.runs()
        assert later.curve(run, "loss") == losses(told)
        assert trackers_of(again)["mlflow"].url.endswith(run.info.run_id)
    finally:
        later.stop()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_wandb_without_a_server_keeps_the_run_and_no_key(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET + "0" * 40)
    uri = f"http://127.0.0.1:{free_port()}"
    outcome, told = workspace.train(config("w", TEXT, QUICK, STEPS, {"reportTo": ["wandb"], "tracking": {"uri": uri}}))
    output = workspace.folder / "models" / "w"
    assert wandb_file(output, "loss") == losses(told)
    (warning,) = told.warnings
    assert "wandb sync" in warning
    assert trackers_of(outcome)["wandb"].path == "./models/w/trackers/wandb"
    assert all(SECRET not in path.read_text(errors="replace") for path in files(output))
    assert SECRET not in repr(told.events)


def test_mlflow_without_a_server_is_refused_before_training(workspace: Workspace) -> None:
    with pytest.raises(TrainingError, match=r"spec\.tracking\.uri: required with reportTo: mlflow") as raised:
        workspace.train(config("none", TEXT, {"reportTo": ["mlflow"]}))
    assert raised.value.exit_code == 2


def test_a_library_that_is_missing_is_refused_with_the_fix(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tracking.PACKAGES, "trackio", ("no-such-package",))
    with pytest.raises(TrainingError, match=r"trackio needs the package no-such-package.* extra trackers"):
        workspace.train(config("none", TEXT, {"reportTo": ["trackio"]}))


def test_a_token_in_a_url_is_not_told() -> None:
    from model_garden_trainer.trackers.follower import without_secrets

    told = without_secrets("cannot reach https://me:pass@host/?write_token=abc&page=2 with KEY-1", {"A_KEY": "KEY-1"})
    assert told == "cannot reach https://***@host/?write_token=***&page=2 with ***"
