"""Runs the trainer as a process of this machine, reads its output line by line, and forwards signals.

As in a pod, the config is in an environment variable, events are on stdout, and the outcome is in a file.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, get_args

from model_garden.cli.display import Display
from model_garden.cli.events import show_event
from model_garden.cli.trainer_run import TrainerRun
from model_garden.contract.progress import ProgressEvent, parse_event, parse_outcome
from model_garden.contract.reasons import EXIT_CODES
from model_garden.contract.status import Stage
from model_garden.contract.trainer_config import TrainerConfig
from model_garden.local.process import COMMAND, environment

_FAILURE_LINE = re.compile(rf"({'|'.join(EXIT_CODES)}): ")
"""The line of the log that says why the trainer fails. It is held back, since the outcome repeats it."""
_EVENT_ECHO = re.compile(rf"({'|'.join(get_args(Stage))})(: .*)?|step \d+/\d+  .*")
"""Lines of the log that an event repeats."""


def run_trainer(config: TrainerConfig) -> TrainerRun:
    """Run the trainer in the current folder and show its progress until it has ended."""
    return _TrainerProcess(config).run()


class _TrainerProcess:
    """One trainer process and what it has reported so far."""

    def __init__(self, config: TrainerConfig) -> None:
        self._config = config
        self._result = TrainerRun()
        self._stop_requests = 0
        self._held_back: list[str] = []

    def run(self) -> TrainerRun:
        """Start the process, show its progress until it has ended, and return how it ended."""
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="model-garden-") as folder:
            termination_log = Path(folder) / "termination-log"
            with Display("Starting the trainer") as display:
                code = self._follow(self._start(termination_log), display)
                if termination_log.exists():
                    self._result.outcome = parse_outcome(termination_log.read_text())
                self._release_held_back(display)
        self._result.exit_code = code if code >= 0 else 128 - code
        self._result.seconds = time.monotonic() - started
        return self._result

    def _follow(self, process: subprocess.Popen[bytes], display: Display) -> int:
        try:
            with _Signals(lambda: self._request_stop(process, display)):
                for line in _lines(process.stdout):
                    self._show(line, display)
                return process.wait()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

    def _start(self, termination_log: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            COMMAND,
            env=environment(self._config, termination_log),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C reaches this process alone, which forwards it
        )

    def _request_stop(self, process: subprocess.Popen[bytes], display: Display) -> None:
        self._stop_requests += 1
        if process.poll() is not None:
            return
        if self._stop_requests == 1:
            display.line("Stopping: saving a checkpoint. Press Ctrl-C again to stop at once.")
            process.terminate()
        else:
            os.killpg(process.pid, signal.SIGKILL)

    def _show(self, line: str, display: Display) -> None:
        event = parse_event(line)
        if event is None:
            if self._held_back or _FAILURE_LINE.match(line):
                self._held_back.append(line)
            elif not _EVENT_ECHO.fullmatch(line):
                display.line(line)
            return
        self._release_held_back(display)
        show_event(event, display)
        if isinstance(event, ProgressEvent) and event.progress.loss is not None:
            self._result.losses.append(event.progress.loss)

    def _release_held_back(self, display: Display) -> None:
        """Print the lines held back, unless the outcome repeats them."""
        if not (self._result.outcome and self._result.outcome.result == "Failed"):
            for line in self._held_back:
                display.line(line)
        self._held_back = []


class _Signals:
    """A context in which Ctrl-C, SIGTERM and SIGHUP call ``request_stop`` instead of ending this process."""

    def __init__(self, request_stop: Callable[[], None]) -> None:
        self._request_stop = request_stop
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, lambda *_: self._request_stop())

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _lines(stream: IO[bytes] | None) -> Iterator[str]:
    """The lines of the trainer's output. Of a line that a progress bar overwrites, only the last state is returned."""
    for line in stream or ():
        yield line.decode(errors="replace").rstrip("\r\n").rpartition("\r")[2]
