"""What a run reports: events on stdout for the operator, the same figures in ``metrics.jsonl`` for later.

Telling never ends a run: a closed pipe or a full disk costs the report, not the training.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from model_garden.contract.progress import Event, ProgressEvent, StageEvent, WarningEvent, event_line
from model_garden.contract.status import Progress, Stage
from model_garden.contract.time import timestamp
from model_garden_trainer.atomic_file import write_atomically

Report = Callable[[Event], None]
METRICS_FILE = "metrics.jsonl"
AFTER_TRAINING = {"samples", "evaluation"}
"""Keys of the lines of ``metrics.jsonl`` that follow the last step."""


def log(message: str, *, everyone: bool = False) -> None:
    """A line for people; they read stderr and events have stdout to themselves.

    Of several processes the first speaks for all; another one does only for what ``everyone`` has to say for itself.
    """
    rank = os.environ.get("RANK", "0")
    if rank != "0":
        if not everyone:
            return
        message = f"[rank {rank}] {message}"
    with contextlib.suppress(OSError, ValueError):
        print(message, file=sys.stderr, flush=True)


def report_warning(report: Report, message: str) -> None:
    """Tell something that a person should know and that does not end the run: as an event, and in the log."""
    report(WarningEvent(message=message))
    log(message)


def report_stage(report: Report, stage: Stage, detail: str | None = None) -> None:
    """Tell that the trainer enters a stage: as an event, and in the log."""
    report(StageEvent(stage=stage, detail=detail))
    log(f"{stage}: {detail}" if detail else stage)


class EventPrinter:
    """Prints each event as one line to a stream that nothing else writes to."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream

    def __call__(self, event: Event) -> None:
        """Print ``event``; once the reader has gone, do nothing."""
        if self._stream is None:
            return
        try:
            self._stream.write(event_line(_timed(event)) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None


def _timed(event: Event) -> Event:
    return event.model_copy(update={"time": timestamp()}) if isinstance(event, StageEvent | WarningEvent) else event


class Metrics:
    """``metrics.jsonl``: one line of figures a report, in the order of steps, each step and kind once.

    Of several processes one writes them: ``silent`` is for the others.
    """

    def __init__(self, folder: Path, *, silent: bool = False) -> None:
        self.path = folder / METRICS_FILE
        self._silent = silent

    def append(self, progress: Progress, **more: Any) -> None:
        """Add one line; a failure to write is logged and costs that line alone."""
        if self._silent:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(progress.to_dict() | more) + "\n")
        except OSError as error:
            log(f"{self.path}: a line of metrics could not be written: {error}")

    def rewind(self, step: int) -> None:
        """Drop lines past ``step``, from which training resumes: an earlier attempt did them after its checkpoint."""
        if self._silent or not self.path.exists():
            return
        kept = [json.dumps(line) + "\n" for line in self.lines() if line["step"] <= step]
        write_atomically(self.path, "".join(kept))

    def lines(self) -> Iterator[dict[str, Any]]:
        """The lines of steps so far; skips a line that a crash cut short, and what came after training."""
        if not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and isinstance(record.get("step"), int) and not record.keys() & AFTER_TRAINING:
                yield record

    def replay(self, report: Report) -> Progress | None:
        """Report all lines of a run that finished before; returns the last one."""
        last = None
        for line in self.lines():
            last = _progress(line)
            report(ProgressEvent(progress=last))
        return last

    def last(self) -> Progress | None:
        """The figures of the last line of a step so far, None without any."""
        lines = list(self.lines())
        return _progress(lines[-1]) if lines else None


def _progress(line: Mapping[str, Any]) -> Progress:
    known = {field.alias or name for name, field in Progress.model_fields.items()}
    return Progress.model_validate({key: value for key, value in line.items() if key in known})
