"""One run of a container on disk: what its shim was told, what it started and how it ended. See shim.py."""

import asyncio
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from asyncio.subprocess import PIPE
from contextlib import suppress
from pathlib import Path
from typing import Any

from devcluster.cluster import write_whole
from devcluster.node.environment import on_machine
from devcluster.processes import Process

SHIM = Path(__file__).with_name("shim.py")

SHIM_SPEAKS_WITHIN = 10.0
"""Seconds from its start to its first word, on a busy machine; 0.05 are usual."""


@dataclasses.dataclass(frozen=True)
class Exit:
    """How a run ended; times are seconds since 1970. `reason` is empty for an ordinary end."""

    code: int
    started: float
    finished: float
    reason: str = ""
    message: str = ""


@dataclasses.dataclass(frozen=True)
class Run:
    """The folder of one run of a container."""

    folder: Path

    @property
    def rootfs(self) -> Path:
        """What the container takes for /."""
        return self.folder / "rootfs"

    @property
    def log(self) -> Path:
        """The container's output in the CRI log format."""
        return self.folder / "log"

    @property
    def number(self) -> int:
        """How many runs came before: the restart count."""
        return int(self.folder.name)

    def launch(
        self, command: list[str], environment: dict[str, str], directory: Path, roots: list[str]
    ) -> "subprocess.Popen[bytes]":
        """Starts the shim, which starts the container. The result serves only to reap the shim.

        `roots` are the container paths that have a place on this machine, for later commands in the container.
        """
        orders = {"command": command, "environment": environment, "directory": str(directory), "roots": roots}
        write_whole(self.folder / "launch.json", json.dumps(orders))
        with (self.folder / "shim.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", str(SHIM), str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def spawn(self, command: list[str], stdin: int, stderr: int) -> asyncio.subprocess.Process:
        """Starts another command in the container, as the leader of a process group, with its stdout to be read.

        Raises OSError, or ValueError for a command with a NUL.
        """
        orders = json.loads((self.folder / "launch.json").read_text())
        return await asyncio.create_subprocess_exec(
            *(on_machine(word, orders["roots"], str(self.rootfs)) for word in command),
            cwd=orders["directory"],
            env=orders["environment"],
            stdin=stdin,
            stdout=PIPE,
            stderr=stderr,
            start_new_session=True,
        )

    def is_beginning(self) -> bool:
        """Whether a shim was started a moment ago and has yet to say what it did."""
        try:
            age = time.time() - (self.folder / "launch.json").stat().st_mtime
        except FileNotFoundError:
            return False
        return age < SHIM_SPEAKS_WITHIN and self.started() is None and self.exit() is None

    def exit(self) -> Exit | None:
        """How it ended, or None while it did not."""
        found = _read(self.folder / "exit.json")
        return Exit(**found) if found else None

    def started(self) -> float | None:
        """When the container was started, or None before."""
        found = _read(self.folder / "run.json")
        return found["started"] if found else None

    def shim(self) -> Process | None:
        """The process that watches over the container."""
        return self._process("shim")

    def container(self) -> Process | None:
        """The container's main process."""
        return self._process("container")

    def kill(self) -> None:
        """SIGKILL to all of the container; its shim ends by itself and writes down the end."""
        container = self.container()
        if container:
            container.signal_group(signal.SIGKILL)

    def _process(self, which: str) -> Process | None:
        found = _read(self.folder / "run.json")
        return Process(**found[which]) if found else None


def kill_group(process: asyncio.subprocess.Process) -> None:
    """SIGKILL to what `Run.spawn` started, and to all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def runs_of(container_folder: Path) -> list[Run]:
    """All runs of a container, oldest first."""
    if not container_folder.is_dir():
        return []
    return sorted((Run(entry) for entry in container_folder.iterdir()), key=lambda run: run.number)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return content
