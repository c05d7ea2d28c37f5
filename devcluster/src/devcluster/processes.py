"""Processes that outlive the command that starts them: start, recognise, stop.

A process is known by its pid *and* the moment it started, so that a pid used again for something else is never
signalled. Standard library only and quick to import: the shim of every container uses it too.
"""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def birth(pid: int) -> str | None:
    """When process `pid` started, as an opaque text; None when there is no such process or only its zombie."""
    if sys.platform != "linux":
        answer = subprocess.run(
            ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        state, _, started = answer.stdout.strip().partition(" ")
        return started.strip() if started and not state.startswith("Z") else None
    try:
        # Field 2, the program's name, may hold spaces and brackets: count from behind its last bracket.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, ticks_since_boot = fields[0], fields[19]
    return None if state in "ZX" else f"{_boot()}/{ticks_since_boot}"


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@dataclasses.dataclass(frozen=True)
class Process:
    """One process as written down when it was started."""

    pid: int
    birth: str
    command: list[str]

    @staticmethod
    def of(pid: int, command: Sequence[str]) -> "Process":
        """The record of a process that was just started."""
        return Process(pid, birth(pid) or "", list(command))

    @staticmethod
    def read(path: Path) -> "Process | None":
        """The record in a file; None when there is none or it is damaged."""
        try:
            return Process(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Keeps the record in a file."""
        part = path.with_suffix(".part")
        part.write_text(json.dumps(dataclasses.asdict(self)))
        part.replace(path)

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return birth(self.pid) == self.birth != ""

    def signal(self, number: int) -> None:
        """Sends a signal to this process, if it is still this process."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def signal_group(self, number: int) -> None:
        """Sends a signal to the process group that this process leads; the group may outlive its leader."""
        if birth(self.pid) in (self.birth, None):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)


def start(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> Process:
    """Starts a process in a session of its own, output appended to `log`, no standard input, working in `folder`."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=environment,
            cwd=folder,
        )
    process = Process.of(child.pid, command)
    child.returncode = 0  # it is not ours to wait for: without this Popen warns when it is collected
    return process


def stop(processes: Iterable[Process], grace: float = 10) -> None:
    """SIGTERM to all, SIGKILL to what still runs after `grace` seconds; returns when all are gone."""
    left = list(processes)
    for process in left:
        process.signal(signal.SIGTERM)
    deadline = time.monotonic() + grace
    while left := [process for process in left if process.alive]:
        if time.monotonic() > deadline:
            for process in left:
                process.signal(signal.SIGKILL)
        time.sleep(0.02)
