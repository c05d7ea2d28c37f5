"""Starts a process for each lane and holds each section to its time."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tools.gpu_check.plan import Lane, Section

ROOT = Path(__file__).parents[2]
LAST_LINES = 25
"""Lines of its log that a row tells of a section that failed."""


@dataclass
class Row:
    """What became of a section; of a line of the table that is no section, what it says."""

    section: str
    result: str
    """``passed``, ``failed`` or ``skipped``."""
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Runs:
    """What the processes of all lanes share.

    Attributes:
        folder: their working directory, with models and rows.
        out: the folder of results.
        deadline: when all has to be done, by ``time.monotonic``.
        quick: without a GPU, with tiny models.
        environment: variables of the processes.
        tell: gets each row and what was logged for it, from any thread.
    """

    folder: Path
    out: Path
    deadline: float
    quick: bool
    environment: Mapping[str, str]
    tell: Callable[[Row, str], None]


def environment(packages: Path | None, *, quick: bool, folder: Path) -> dict[str, str]:
    """The variables of a lane's process: it can import the checkout and the carried packages, and asks no Hub."""
    paths = [ROOT, ROOT / "operator", ROOT / "trainer-image", *([packages] if packages else [])]
    given = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*map(str, paths), *([given] if given else [])]),
        "HF_HUB_OFFLINE": "1",
        "TMPDIR": str(folder),
        "PYTHONUNBUFFERED": "1",
        **({"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} if quick else {}),
    }


def run(lane: Lane, runs: Runs) -> None:
    """Run a lane's sections, and tell a row for each. After one that failed, the rest gets a new process."""
    left = []
    for section in lane.sections:
        if section.skipped:
            runs.tell(Row(section.name, "skipped", problems=[section.skipped]), "")
        else:
            left.append(section)
    while left:
        if time.monotonic() >= runs.deadline:
            for section in left:
                runs.tell(Row(section.name, "failed", problems=["not run: the time for all sections is over"]), "")
            return
        told = _Process(lane.name, left, runs).run()
        left = [section for section in left if section.name not in told]


class _Process:
    """One process of a lane."""

    def __init__(self, lane: str, sections: list[Section], runs: Runs) -> None:
        self._runs, self._sections = runs, {section.name: section for section in sections}
        self._running = sections[0]  # what happens before it begins is told as its failure
        self._log = runs.folder / f"{lane}.log"
        self._log.touch()
        self._mark = self._log.stat().st_size
        self._timed_out = False

    def run(self) -> set[str]:
        """Tell a row for each section that ended, and one for that in which the process ended; their names."""
        request = {
            "sections": [section.to_dict() for section in self._sections.values()],
            "quick": self._runs.quick,
            "out": str(self._runs.out),
        }
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tools.gpu_check.worker"],
                cwd=self._runs.folder,
                env=self._runs.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert process.stdin and process.stdout
        with process:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(request))
                process.stdin.close()
            told = self._read(process.stdout, process)
        if not told or self._began:
            told.add(self._running.name)
            self._tell(Row(self._running.name, "failed", self._seconds(), [self._end_of(process.returncode)]))
        return told

    def _read(self, lines: IO[str], process: subprocess.Popen[str]) -> set[str]:
        """Follow the process until it ends or is ended."""
        told: set[str] = set()
        timer = self._begin(process)
        try:
            for line in lines:
                event = json.loads(line)
                timer.cancel()
                if "begin" in event:
                    self._running = self._sections[event["begin"]]
                    timer = self._begin(process)
                else:
                    self._began = 0.0
                    told.add(event["end"])
                    result = "failed" if event["problems"] else "passed"
                    if reason := event["found"].get("skipped"):
                        result, event["problems"] = "skipped", [reason]
                    self._tell(Row(event["end"], result, event["seconds"], event["problems"], event["found"]))
        finally:
            timer.cancel()
        return told

    def _begin(self, process: subprocess.Popen[str]) -> threading.Timer:
        self._began = time.monotonic()

        def end() -> None:
            self._timed_out = True
            process.kill()

        left = max(1.0, self._runs.deadline - self._began)
        timer = threading.Timer(min(self._running.limit, left), end)
        timer.daemon = True
        timer.start()
        return timer

    def _end_of(self, code: int) -> str:
        if self._timed_out:
            return (
                f"ended after {self._seconds():.0f} s: over its limit of {self._running.limit} s, or over that of all"
            )
        return f"its process ended with exit code {code}"

    def _seconds(self) -> float:
        return round(time.monotonic() - self._began, 2) if self._began else 0.0

    def _tell(self, row: Row) -> None:
        """Tell a row with its part of the log, if it failed."""
        with self._log.open("rb") as log:
            log.seek(self._mark)
            said = log.read().decode(errors="replace")
        self._mark = self._log.stat().st_size
        if row.result == "failed":
            row.log = said.strip().splitlines()[-LAST_LINES:]
        self._runs.tell(row, said)
