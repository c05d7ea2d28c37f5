"""Runs one container once: `python -I -S shim.py FOLDER`. Standard library only.

It outlives the node process, so that a restarted node finds its containers running, their logs whole and their exit
codes written down. Reads FOLDER/launch.json; writes FOLDER/run.json, FOLDER/log and, last of all, FOLDER/exit.json.
"""

import contextlib
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from devcluster.processes import Process

LONGEST_LINE = 16 * 1024
"""Bytes; a longer line is stored in parts, as container runtimes do."""

SET_CHILD_SUBREAPER = 36
"""prctl option: orphans below this process become its children and not those of the machine's first process."""

IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The shim ends after its container and not before."""

START_FAILED = 128
"""Exit code of a container whose program could not be started, as container runtimes have it."""


def main(folder: Path) -> None:
    """Starts the container, copies its output, waits for its end, ends what it left running."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    launch = json.loads((folder / "launch.json").read_text())
    started = time.time()
    try:
        child = subprocess.Popen(
            launch["command"],
            cwd=launch["directory"],
            env=launch["environment"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_default_signals,  # noqa: PLW1509 - this process has no threads
        )
    except OSError as error:
        _write(folder / "exit.json", _ending(START_FAILED, started, "StartError", _start_error(launch, error)))
        return
    shim, container = Process.of(os.getpid(), sys.argv), Process.of(child.pid, launch["command"])
    _write(folder / "run.json", {"shim": vars(shim), "container": vars(container), "started": started})
    with (folder / "log").open("ab", buffering=0) as log:
        _copy_output(child, log)
    code = child.returncode
    _write(folder / "exit.json", _ending(code if code >= 0 else 128 - code, started))


def _default_signals() -> None:
    for number in (*IGNORED, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def _start_error(launch: dict[str, Any], error: OSError) -> str:
    """Tells a missing program from a missing or closed folder."""
    program = launch["command"][0]
    if error.filename == program or not Path(launch["directory"]).is_dir():
        return f'cannot start "{program}": {error.strerror}: {error.filename}'
    return f'exec: "{program}": {error.strerror} (looked for in PATH={launch["environment"].get("PATH", "")})'


def _ending(code: int, started: float, reason: str = "", message: str = "") -> dict[str, Any]:
    return {"code": code, "started": started, "finished": time.time(), "reason": reason, "message": message}


def _write(path: Path, content: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content))
    part.replace(path)


def _copy_output(child: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
    """Copies both streams to the log until the container's main process has ended and all its output is read.

    What the main process leaves running ends with it, as in a container: else an orphan could hold the pipe for ever.
    """
    pending: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
    with selectors.DefaultSelector() as selector:
        bell = _bell_for_ended_children()
        selector.register(bell, selectors.EVENT_READ)
        for name in pending:
            selector.register(getattr(child, name), selectors.EVENT_READ, name)
        _reap(child)  # it may have ended before the bell was there
        while child.returncode is None or len(selector.get_map()) > 1:
            for key, _ in selector.select():
                data = os.read(key.fd, 65536)
                if key.fd == bell:
                    _reap(child)
                    continue
                if not data:
                    selector.unregister(key.fileobj)
                _append(log, key.data, pending[key.data], data)


def _bell_for_ended_children() -> int:
    """A file descriptor that becomes readable when a child ends."""
    listen, ring = os.pipe()
    os.set_blocking(ring, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler must be there for the wakeup to be written
    signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
    return listen


def _reap(child: "subprocess.Popen[bytes]") -> None:
    """Waits for all ended children, orphans of the container included; after the main process, ends the rest."""
    while True:
        try:
            pid, code = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid == child.pid:
            child.returncode = os.waitstatus_to_exitcode(code)
            _end_remains(child.pid)


def _append(log: IO[bytes], stream: str, pending: bytearray, data: bytes) -> None:
    """Writes the whole lines of a stream, and at its end (no data) what is left."""
    pending += data
    out = bytearray()
    while (end := pending.find(b"\n")) >= 0 or len(pending) >= LONGEST_LINE or (pending and not data):
        full = 0 <= end <= LONGEST_LINE
        line = bytes(pending[:end] if full else pending[:LONGEST_LINE])
        del pending[: len(line) + full]
        out += b"%s %s %s %s\n" % (_now(), stream.encode(), b"F" if full else b"P", line)
    if out:
        log.write(out)


def _now() -> bytes:
    """RFC 3339 with nanoseconds, always of the same length, so that timestamps compare as text."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return b"%s.%09dZ" % (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode(), nanoseconds)


def _end_remains(group: int) -> None:
    """Kills the container's process group, then every orphan that came to this process, until none is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    while sys.platform == "linux":
        for pid in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    own = str(os.getpid())
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[1] == own:
                found.append(int(stat.parent.name))
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
