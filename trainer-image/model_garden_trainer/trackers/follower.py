"""The process of one tracker: it follows ``metrics.jsonl`` until a line on standard input ends it.

    MODEL_GARDEN_CONFIG='{"name": …, "spec": {…}}' python -m model_garden_trainer track mlflow

The line says how the attempt ended. Without one, the trainer was killed.
"""

from __future__ import annotations

import re
import select
import sys
import time
from collections.abc import Callable, Mapping
from typing import get_args

from model_garden.contract.options import Tracker
from model_garden.contract.trainer_config import TrainerConfig
from model_garden_trainer.trackers import mlflow, tensorboard, trackio, wandb
from model_garden_trainer.trackers.points import Point, PointReader
from model_garden_trainer.trackers.state import State, state_file
from model_garden_trainer.trackers.tracked_run import Result, TrackedRun, Writer

STARTS: Mapping[Tracker, Callable[[TrackedRun, State], Writer]] = {
    "mlflow": mlflow.start,
    "wandb": wandb.start,
    "tensorboard": tensorboard.start,
    "trackio": trackio.start,
}
POLL_SECONDS = 1.0
RETRY_SECONDS = (5, 15, 60)
"""Pauses after a failure; the last one is repeated."""
_SECRET = re.compile(r"KEY|TOKEN|PASSWORD|SECRET|CREDENTIAL", re.IGNORECASE)
_ACCOUNT = re.compile(r"://[^/@\s]+@")
_QUERY = re.compile(r"\?[^#\s]*")
_QUERY_SECRET = re.compile(r"([?&][^=\s&]*(?:key|token|password|secret)[^=\s&]*=)[^&#\s]+", re.IGNORECASE)
"""The query of a URL, in which Trackio takes its write token."""


class Follower:
    """Sends what a run adds to ``metrics.jsonl``, each point once, and tries again after a failure."""

    def __init__(self, tracker: Tracker, run: TrackedRun, environment: Mapping[str, str]) -> None:
        self._run, self._environment = run, environment
        self._file = state_file(run.output, tracker)
        self._state = State.read(self._file)
        self._state.problem = None
        self._start = STARTS[tracker]
        self._reader = PointReader(run.output)
        self._writer: Writer | None = None
        self._waiting: list[Point] = []
        self._failures, self._retry_at = 0, 0.0

    def send(self, *, now: bool = False) -> bool:
        """Send new points, unless it is too early to try again; whether all of them were sent."""
        known = self._waiting[-1].position if self._waiting else self._state.sent
        self._waiting += self._reader.after(known)
        if not now and time.monotonic() < self._retry_at:
            return False
        if self._writer is None and not self._do(self._begin):
            return False
        return not self._waiting or self._do(self._write)

    def end(self, result: Result) -> None:
        """Send what is left, and end the run."""
        if self.send(now=True):
            writer = self._writer
            assert writer
            self._do(lambda: writer.end(result))

    def _begin(self) -> None:
        self._writer = self._start(self._run, self._state)

    def _write(self) -> None:
        assert self._writer
        self._writer.write(self._waiting)
        self._state.sent = self._waiting[-1].position
        self._waiting = []

    def _do(self, action: Callable[[], None]) -> bool:
        """Do it and write the state; whether it succeeded. A library may raise any exception."""
        try:
            action()
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            self._state.problem = f"{type(error).__name__}: {first}"
            pause = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
            self._failures, self._retry_at = self._failures + 1, time.monotonic() + pause
            succeeded = False
        else:
            succeeded = True
            if self._failures:
                self._failures, self._state.problem = 0, None
        self._state.problem = self._state.problem and without_secrets(self._state.problem, self._environment)[:400]
        self._state.url = self._state.url and _QUERY.sub("", _ACCOUNT.sub("://", self._state.url))
        self._state.write(self._file)
        return succeeded


def without_secrets(text: str, environment: Mapping[str, str]) -> str:
    """``text`` without the values of variables that hold secrets, and without accounts in URLs."""
    for name, value in environment.items():
        if _SECRET.search(name) and len(value) > 3:
            text = text.replace(value, "***")
    return _QUERY_SECRET.sub(r"\1***", _ACCOUNT.sub("://***@", text))


def main(tracker: str, config: TrainerConfig, environment: Mapping[str, str]) -> None:
    """Follow the run of ``config`` until standard input has a line, or ends."""
    name = next(one for one in get_args(Tracker) if one == tracker)
    run = TrackedRun.of(config)
    follower = Follower(name, run, environment)
    while not select.select([sys.stdin], [], [], POLL_SECONDS)[0]:
        follower.send()
    word = sys.stdin.readline().strip()
    follower.end(next((one for one in get_args(Result) if one == word), "failed"))
