"""The demo's web page: ``model-garden serve`` as a process that stays until ``make demo-down``."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from demo.steps import DemoError, console, step

FIRST_PORT = 8000
PORTS = 100
START_SECONDS = 120


def serve(kubeconfig: Path, example: str) -> str:
    """Start the server unless it runs, and return the address of the example's page."""
    step("The web page of the job")
    if (port := _running(kubeconfig.parent)) is None:
        port = _start(kubeconfig)
    address = f"http://localhost:{port}/training/{example}"
    console.print(f"{address} shows it live, until make demo-down")
    return address


def stop(kubeconfig: Path) -> None:
    """End the server, if it runs."""
    folder = kubeconfig.parent
    if _running(folder):
        with suppress(ProcessLookupError):
            os.kill(int((folder / "serve.pid").read_text()), signal.SIGTERM)
    (folder / "serve.port").unlink(missing_ok=True)


def _start(kubeconfig: Path) -> int:
    folder = kubeconfig.parent  # make demo-down removes it
    port = _free_port()
    command = [str(Path(sys.executable).parent / "model-garden"), "serve", "--port", str(port)]
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=os.environ | {"KUBECONFIG": str(kubeconfig)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (folder / "serve.pid").write_text(str(process.pid))
    (folder / "serve.port").write_text(str(port))
    deadline = time.monotonic() + START_SECONDS
    while "Model Garden serves" not in (folder / "serve.log").read_text():  # another process may answer on the port
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            (folder / "serve.port").unlink()
            raise DemoError(f"model-garden serve did not start; see {folder / 'serve.log'}")
        time.sleep(0.1)
    return port


def _running(folder: Path) -> int | None:
    """The port of the server that an earlier run started and that still answers."""
    with suppress(OSError, ValueError):
        port = int((folder / "serve.port").read_text())
        return port if _answers(port) else None
    return None


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    """The first free port from 8000 on."""
    for port in range(FIRST_PORT, FIRST_PORT + PORTS):
        if not _answers(port):
            return port
    raise DemoError(f"no port from {FIRST_PORT} to {FIRST_PORT + PORTS} is free")
