"""``train``, ``train-vision`` and ``run``: the trainer as a process of this machine, the same spec as on a cluster.

The trainer gets its config in one environment variable, prints events and leaves an outcome, exactly as in a pod.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, get_args

from model_garden.cli.display import Display
from model_garden.cli.events import show_event
from model_garden.cli.output import FAILED, CommandError, print_json
from model_garden.cli.report import print_result, tell_trouble
from model_garden.contract.defaults import effective_spec, merge
from model_garden.contract.names import CONFIG_ENV, TERMINATION_ENV
from model_garden.contract.progress import Outcome, ProgressEvent, Stage, parse_event, parse_outcome
from model_garden.contract.reasons import EXIT_CODES
from model_garden.contract.trainer_config import TrainerConfig
from model_garden.services.manifest import Job, job_from_flags, parse_sets, read_job

TRAINER = "model_garden_trainer"
_LAST_WORDS = re.compile(rf"({'|'.join(EXIT_CODES)}): ")
"""How the trainer's log says why it fails: held back, since the outcome says it again."""
_ECHO = re.compile(rf"({'|'.join(get_args(Stage))})(: .*)?|step \d+/\d+  .*")
"""What the trainer's log says of stages and steps, which the events say too."""


def train_from_flags(given: dict[str, Any], sets: list[str] | None, *, vision: bool, output: str) -> None:
    """Train what the flags describe and exit as the trainer does."""
    kind = {"isVision": True} if vision else {}
    run_job(job_from_flags(merge(merge(kind, given), parse_sets(sets))), output=output)


def run_file(file: str, sets: list[str] | None, *, output: str) -> None:
    """Train what a file describes and exit as the trainer does."""
    run_job(read_job(file, parse_sets(sets)), output=output)


def run_job(job: Job, *, output: str) -> None:
    """Run the trainer to its end, show what it does, print the outcome, and exit with the trainer's code."""
    if find_spec("torch") is None:
        raise CommandError("training needs the trainer's packages: pip install 'model-garden[trainer]'", FAILED)
    spec = effective_spec(job.spec, job.name, local_gpus=local_gpus())
    run = TrainerRun(TrainerConfig(name=job.name, spec=spec))
    run.watch()
    tell_trouble(run)
    if output == "json":
        print_json(run.outcome.to_dict() if run.outcome else {"result": "Failed", "exitCode": run.exit_code})
    else:
        print_result(run, vision=spec.vision)
    sys.exit(run.exit_code)


def local_gpus() -> int:
    """NVIDIA GPUs of this machine that this process may use, found without torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = len([device for device in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", device.name)])
    if not found:
        found = _gpus_of_nvidia_smi()
    if visible is None:
        return found
    chosen = [part for part in visible.split(",") if part.strip() not in ("", "-1")]
    return min(found, len(chosen))


def _gpus_of_nvidia_smi() -> int:
    """Where there are no device files (WSL), the driver's own tool knows."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in listed.splitlines())


class TrainerRun:
    """One trainer process: what it said, and how it ended."""

    def __init__(self, config: TrainerConfig) -> None:
        self.config = config
        self.outcome: Outcome | None = None
        self.exit_code = 0
        self.seconds = 0.0
        self.first_loss: float | None = None
        self.last_loss: float | None = None
        self._asked = 0
        self._last_words: list[str] = []

    def watch(self) -> None:
        """Start the trainer in this folder and show its progress until it has ended."""
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="model-garden-") as folder:
            termination_log = Path(folder) / "termination-log"
            with Display("Starting the trainer") as display:
                code = self._follow(self._start(termination_log), display)
                if termination_log.exists():
                    self.outcome = parse_outcome(termination_log.read_text())
                self._say_last_words(display)
        self.exit_code = code if code >= 0 else 128 - code
        self.seconds = time.monotonic() - started

    def _follow(self, process: subprocess.Popen[bytes], display: Display) -> int:
        try:
            with _Signals(lambda: self._ask_to_stop(process, display)):
                for line in _lines(process.stdout):
                    self._show(line, display)
                return process.wait()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

    def _start(self, termination_log: Path) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            CONFIG_ENV: self.config.model_dump_json(by_alias=True, exclude_none=True),
            TERMINATION_ENV: str(termination_log),
            "PYTHONUNBUFFERED": "1",
        }
        environment.setdefault("NPROC_PER_NODE", str(max(1, min(self.config.spec.gpus, local_gpus()))))
        return subprocess.Popen(
            [sys.executable, "-P", "-m", TRAINER],  # -P: no file of this folder hides a module
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C is ours to pass on
        )

    def _ask_to_stop(self, process: subprocess.Popen[bytes], display: Display) -> None:
        self._asked += 1
        if process.poll() is not None:
            return
        if self._asked == 1:
            display.line("Stopping: saving a checkpoint first. Press Ctrl-C again to end at once.")
            process.terminate()
        else:
            os.killpg(process.pid, signal.SIGKILL)

    def _show(self, line: str, display: Display) -> None:
        event = parse_event(line)
        if event is None:
            if self._last_words or _LAST_WORDS.match(line):
                self._last_words.append(line)
            elif not _ECHO.fullmatch(line):
                display.line(line)
            return
        self._say_last_words(display)
        show_event(event, display)
        if isinstance(event, ProgressEvent) and event.progress.loss is not None:
            self.last_loss = event.progress.loss
            self.first_loss = self.last_loss if self.first_loss is None else self.first_loss

    def _say_last_words(self, display: Display) -> None:
        """Print what was held back, unless the outcome says the same in its own line."""
        if not (self.outcome and self.outcome.result == "Failed"):
            for line in self._last_words:
                display.line(line)
        self._last_words = []


class _Signals:
    """While it lasts, a wish to end (Ctrl-C, SIGTERM, a closed terminal) calls ``ask`` and this process lives on."""

    def __init__(self, ask: Any) -> None:
        self._ask = ask
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, lambda *_: self._ask())

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _lines(stream: IO[bytes] | None) -> Iterator[str]:
    """The lines of the trainer's output; of a line that a progress bar wrote over, its last state."""
    for line in stream or ():
        yield line.decode(errors="replace").rstrip("\r\n").rpartition("\r")[2]
