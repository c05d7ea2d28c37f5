"""What surrounds a run: requests to stop, the watchdog, reports that nobody reads. No torch."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from model_garden.contract.names import ANNOTATIONS_ENV
from model_garden.contract.progress import StageEvent, parse_event
from model_garden.contract.status import Progress
from model_garden_trainer.__main__ import _CACHES, set_environment
from model_garden_trainer.engine.stopping import StopRequests
from model_garden_trainer.engine.watchdog import Watchdog
from model_garden_trainer.events import EventPrinter, Metrics


@pytest.mark.parametrize(
    ("lines", "save"),
    [
        ('model-garden.dev/stop="save"\n', True),
        ('a="b\\n=c"\nmodel-garden.dev/stop="save"\nz="1"\n', True),
        ('model-garden.dev/stop="later"\n', False),
        ('other/model-garden.dev/stop="save"\n', False),
        ("", False),
    ],
)
def test_the_annotation_asks_to_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, save: bool) -> None:
    path = tmp_path / "annotations"
    monkeypatch.setenv(ANNOTATIONS_ENV, str(path))
    requests = StopRequests()
    assert not requests.save  # there is no such file on a laptop
    path.write_text(lines)
    assert requests.save is save


def test_a_signal_waits_for_the_step_and_a_second_one_does_not() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    requests, ended = StopRequests(), []
    requests.on_interrupt = lambda: ended.append(True)
    try:
        requests.listen()
        requests.interruptible = False
        os.kill(os.getpid(), signal.SIGTERM)
        assert requests.stop and not ended
        os.kill(os.getpid(), signal.SIGTERM)
        assert ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_while_nothing_would_be_lost_a_signal_ends_the_process_at_once() -> None:
    requests, ended = StopRequests(), []
    requests.on_interrupt = lambda: ended.append(True)
    requests._on_stop(signal.SIGTERM, None)
    assert ended


def test_a_hang_is_told_with_the_stacks_of_all_threads(capfd: pytest.CaptureFixture[str]) -> None:
    told, hung = [], threading.Event()

    def on_hang(message: str) -> None:
        told.append(message)
        hung.set()

    with Watchdog(0.2, 0.05, on_hang) as watchdog:
        watchdog.beat()
        assert hung.wait(60)
    assert "health.stepSeconds" in told[0]
    assert "test_a_hang_is_told" in capfd.readouterr().err


def test_a_run_that_goes_on_is_left_alone() -> None:
    hung = threading.Event()
    with Watchdog(60, 60, lambda _: hung.set()) as watchdog:
        watchdog.beat()
    assert not hung.is_set() and threading.active_count() < 50


def test_an_event_is_one_line_and_a_closed_pipe_ends_nothing() -> None:
    stream = io.StringIO()
    printer = EventPrinter(stream)
    printer(StageEvent(stage="model", detail="a\nb"))
    assert stream.getvalue().count("\n") == 1
    printed = parse_event(stream.getvalue().strip())
    assert isinstance(printed, StageEvent) and printed.time
    assert (printed.stage, printed.detail) == ("model", "a\nb")
    stream.close()
    printer(StageEvent(stage="training"))

    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        printer = EventPrinter(pipe)
        printer(StageEvent(stage="model"))
        printer(StageEvent(stage="training"))
        os.dup2(os.open(os.devnull, os.O_WRONLY), pipe.fileno())  # so that closing it can flush


def test_metrics_hold_each_step_once_after_a_crash(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    metrics.rewind(3)
    for step in (1, 2, 3):
        metrics.append(Progress(step=step, total_steps=9, loss=float(step)))
    with metrics.path.open("a") as file:
        file.write('{"step": 4, "lo')
    metrics.rewind(2)
    metrics.append(Progress(step=3, total_steps=9, loss=3.5))
    lines = [json.loads(line) for line in metrics.path.read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1.0), (2, 2.0), (3, 3.5)]
    Metrics(tmp_path / "gone").append(Progress(step=1, total_steps=1))  # a disk that went ends nothing


def test_caches_lie_in_the_workspace_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*_CACHES, "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    set_environment(tmp_path)
    assert "HF_HOME" not in os.environ and os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
    (tmp_path / "cache").mkdir()
    os.environ["TORCH_HOME"] = "/mine"
    set_environment(tmp_path)
    assert os.environ["HF_HOME"] == str(tmp_path / "cache/huggingface") and os.environ["TORCH_HOME"] == "/mine"
    for compiled in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "UNSLOTH_COMPILE_LOCATION"):
        assert Path(os.environ[compiled]).parent == tmp_path / "cache"


def test_no_library_that_reads_the_places_of_caches_is_imported_before_they_are_set() -> None:
    libraries = "huggingface_hub", "torch", "triton", "transformers", "datasets", "matplotlib"
    code = f"import sys, model_garden_trainer.__main__; print([name for name in {libraries} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
