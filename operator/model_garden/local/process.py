"""One attempt of a job: the trainer as a process, and the folder with what it leaves.

The process outlives the server that started it. It inherits a lock on a file of the folder, which shows whether it
still runs. A shell waits for it and writes its exit code, since a restarted server is not its parent.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from model_garden.contract.names import ANNOTATION_STOP, ANNOTATIONS_ENV, CONFIG_ENV, TERMINATION_ENV
from model_garden.contract.time import timestamp
from model_garden.contract.trainer_config import TrainerConfig

COMMAND = (sys.executable, "-P", "-m", "model_garden_trainer")
"""``-P``: no file of the current folder hides a module."""
KILLED = 137
GRACE_SECONDS = 60
"""How long a trainer may take to write a checkpoint after SIGTERM."""
_SHELL = """
echo $$ > "$0/group"
(
  "$@" &
  echo $! > "$0/pid.partial" && mv "$0/pid.partial" "$0/pid"
  wait $!
  echo $? > "$0/exit-code.partial" && mv "$0/exit-code.partial" "$0/exit-code"
) &
"""
"""The first shell ends at once, so that the second is nobody's child, and no server has to wait for it."""


def environment(config: TrainerConfig, termination_log: Path) -> dict[str, str]:
    """The variables of a trainer process on this machine."""
    variables = os.environ | {
        CONFIG_ENV: config.model_dump_json(by_alias=True, exclude_none=True),
        TERMINATION_ENV: str(termination_log),
        "PYTHONUNBUFFERED": "1",
    }
    variables.setdefault("NPROC_PER_NODE", str(max(1, min(config.spec.gpus, gpus()))))
    return variables


def gpus() -> int:
    """The number of NVIDIA GPUs that this process may use, counted without torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = len([device for device in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", device.name)])
    if not found:
        found = _gpus_of_nvidia_smi()
    if visible is None:
        return found
    chosen = [part for part in visible.split(",") if part.strip() not in ("", "-1")]
    return min(found, len(chosen))


def _gpus_of_nvidia_smi() -> int:
    """The number of GPUs that ``nvidia-smi`` lists: WSL has no device files."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in listed.splitlines())


@dataclass(frozen=True)
class Attempt:
    """The folder of one attempt, whose name is the attempt's number."""

    folder: Path

    @property
    def number(self) -> int:
        """1 for the first."""
        return int(self.folder.name)

    @property
    def log(self) -> Path:
        """What the process has written."""
        return self.folder / "log"

    @property
    def termination_log(self) -> Path:
        """The outcome, once there is one."""
        return self.folder / "termination-log"

    @property
    def annotations(self) -> Path:
        """What a pod's annotations would tell it."""
        return self.folder / "annotations"

    @property
    def started(self) -> str:
        """When it was started."""
        return (self.folder / "started").read_text()

    @property
    def ended(self) -> str:
        """When it ended; to be asked for only then."""
        file = self.folder / "exit-code"
        seconds = (file if file.exists() else self.log).stat().st_mtime
        return timestamp(datetime.fromtimestamp(seconds, UTC))

    @property
    def exit_code(self) -> int | None:
        """The exit code, 128 + N after signal N; None while it runs."""
        if self._runs():
            return None
        try:
            return int((self.folder / "exit-code").read_text())
        except (OSError, ValueError):
            return KILLED  # the shell was killed too, or the machine went down

    @property
    def stop_requested(self) -> bool:
        """Whether the server asked it to stop, so that its end is no failure."""
        return (self.folder / "stop-requested").exists()

    @property
    def save_requested(self) -> bool:
        """Whether it was asked to stop early and save."""
        return self.annotations.exists()

    def request_stop(self) -> None:
        """Ask it to write a checkpoint and end; after ``GRACE_SECONDS``, end it. To be called until it has ended."""
        marker = self.folder / "stop-requested"
        if marker.exists():  # a second signal would cost the checkpoint
            if time.time() - marker.stat().st_mtime > GRACE_SECONDS:
                self.kill()
        elif (self.folder / "pid").exists():  # its shell writes it; until then the process cannot be asked
            marker.touch()
            self._terminate()

    def request_save(self) -> None:
        """Ask it to end training early and save the model."""
        if not self.save_requested:
            self.annotations.write_text(f'{ANNOTATION_STOP}="save"\n')

    def kill(self) -> None:
        """End it at once."""
        if self._runs():
            os.killpg(int((self.folder / "group").read_text()), signal.SIGKILL)

    def _runs(self) -> bool:
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _terminate(self) -> None:
        """Signal the trainer alone; the shell has to live on to write its exit code."""
        if self._runs():
            with suppress(ProcessLookupError):
                os.kill(int((self.folder / "pid").read_text()), signal.SIGTERM)


def attempts(folder: Path) -> list[Attempt]:
    """The attempts of a job's folder, the oldest first."""
    found = (Attempt(path) for path in folder.glob("*") if (path / "started").exists())
    return sorted(found, key=lambda attempt: attempt.number)


def start(folder: Path, config: TrainerConfig, workspace: Path) -> None:
    """Start the next attempt of a job in ``workspace``; ``folder`` holds the attempts."""
    number = max((attempt.number for attempt in attempts(folder)), default=0) + 1
    attempt = Attempt(folder / str(number))
    attempt.folder.mkdir(parents=True, exist_ok=True)
    (attempt.folder / "started").write_text(timestamp())
    with (attempt.folder / "lock").open("w") as lock, attempt.log.open("wb") as log:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(
            ["/bin/sh", "-c", _SHELL, str(attempt.folder), *COMMAND],
            cwd=workspace,
            env=environment(config, attempt.termination_log) | {ANNOTATIONS_ENV: str(attempt.annotations)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock.fileno(),),
        )
        process.wait()
