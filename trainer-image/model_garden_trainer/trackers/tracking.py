"""The trainer's side of tracking: checks before training, the processes of the trackers, and what they report."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from model_garden.contract.names import CONFIG_ENV
from model_garden.contract.options import Tracker
from model_garden.contract.progress import Event, ProgressEvent
from model_garden.contract.spec import EffectiveSpec
from model_garden.contract.status import TrackerStatus
from model_garden.contract.trainer_config import TrainerConfig
from model_garden_trainer.distributed.launch import RANK_VARIABLES
from model_garden_trainer.errors import Stopped, TrainingError
from model_garden_trainer.events import METRICS_FILE, Report, log, report_warning
from model_garden_trainer.exports import outputs
from model_garden_trainer.trackers import mlflow, tensorboard, trackio, wandb
from model_garden_trainer.trackers.state import State, state_file
from model_garden_trainer.trackers.tracked_run import Result

PACKAGES: dict[Tracker, tuple[str, ...]] = {
    "mlflow": (mlflow.PACKAGE, "mlflow"),
    "wandb": (wandb.PACKAGE,),
    "tensorboard": (tensorboard.PACKAGE,),
    "trackio": (trackio.PACKAGE,),
}
"""The packages of each tracker, of which one is enough."""
END_SECONDS = 60
"""How long the trackers may take to send the last figures."""


def check(spec: EffectiveSpec, environment: Mapping[str, str]) -> None:
    """Check before training that the libraries are here, and that MLflow has a server.

    Raises:
        TrainingError: InvalidSpec with the fix.
    """
    for tracker in spec.report_to or ():
        packages = PACKAGES[tracker]
        if not any(map(_is_installed, packages)):
            raise TrainingError(
                "InvalidSpec",
                f"spec.reportTo: {tracker} needs the package {packages[0]}, which the trainer does not have; use a "
                f"trainer image with the extra trackers (on your own machine: pip install {packages[0]}), or remove "
                f"{tracker}",
            )
    server = spec.tracking and spec.tracking.uri
    if "mlflow" in (spec.report_to or ()) and not server and not environment.get(mlflow.URI_ENV):
        raise TrainingError(
            "InvalidSpec",
            f"spec.tracking.uri: required with reportTo: mlflow, since {mlflow.URI_ENV} is not set either; give the "
            "URL of the MLflow server, such as http://mlflow.example.com:5000",
        )


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


@dataclass
class _Follower:
    """The process of one tracker, and what was told of it."""

    tracker: Tracker
    process: subprocess.Popen[str]
    url: str | None = None
    has_failed: bool = False


@dataclass
class Tracking:
    """The trackers of a run. It passes every event on, and tells problems of the trackers as warnings.

    Args:
        report: gets every event.
        output: the output folder.
    """

    report: Report
    output: Path
    _followers: list[_Follower] = field(default_factory=list)
    _ends_at: float | None = None

    def __call__(self, event: Event) -> None:
        """Pass ``event`` on."""
        self.report(event)
        if isinstance(event, ProgressEvent):
            self._tell()

    def start(self, tracker: Tracker, config: TrainerConfig) -> None:
        """Start the process of ``tracker``."""
        file = state_file(self.output, tracker)
        file.parent.mkdir(parents=True, exist_ok=True)
        state = State.read(file)
        state.problem = None  # that of an earlier attempt
        state.write(file)
        dropped = {*RANK_VARIABLES, "HF_HUB_OFFLINE"}
        environment = {name: value for name, value in os.environ.items() if name not in dropped}
        environment |= {
            CONFIG_ENV: config.model_dump_json(by_alias=True, exclude_none=True),
            "CUDA_VISIBLE_DEVICES": "",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "model_garden_trainer", "track", tracker],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # libraries may print what no log should hold
            text=True,
        )
        self._followers.append(_Follower(tracker, process))

    def end(self, result: Result) -> None:
        """Let the trackers send the last figures. Only the first call counts, and it does not wait."""
        if self._ends_at is not None:
            return
        self._ends_at = time.monotonic() + END_SECONDS
        for follower in self._followers:
            assert follower.process.stdin
            try:
                follower.process.stdin.write(f"{result}\n")
                follower.process.stdin.close()
            except OSError:
                pass  # the process has ended, and ``places`` tells its exit code

    def places(self) -> list[TrackerStatus]:
        """Where the trackers show the run, once they have ended or their time is over."""
        self.end("finished")
        assert self._ends_at is not None
        for follower in self._followers:
            try:
                follower.process.wait(max(0.1, self._ends_at - time.monotonic()))
            except subprocess.TimeoutExpired:
                follower.process.kill()
                follower.process.wait()
                self._warn(follower, f"it did not answer within {END_SECONDS} seconds")
        self._tell()
        states = {one.tracker: State.read(state_file(self.output, one.tracker)) for one in self._followers}
        return [
            TrackerStatus(
                name=tracker,
                url=state.url,
                path=outputs.relative(self.output / state.path) if state.path else None,
            )
            for tracker, state in states.items()
            if state.url or state.path
        ]

    def _tell(self) -> None:
        for follower in self._followers:
            state = State.read(state_file(self.output, follower.tracker))
            if state.url and state.url != follower.url:
                follower.url = state.url
                log(f"{follower.tracker}: {state.url}")
            if state.problem:
                self._warn(follower, state.problem)
            elif code := follower.process.poll():
                self._warn(follower, f"its process ended with exit code {code}")

    def _warn(self, follower: _Follower, problem: str) -> None:
        """One warning a tracker and attempt."""
        if not follower.has_failed:
            follower.has_failed = True
            kept = f"training continues, and {METRICS_FILE} in the output folder keeps all figures"
            report_warning(self.report, f"{follower.tracker} does not get the figures: {problem}; {kept}")


@contextmanager
def tracking(config: TrainerConfig, output: Path, report: Report, *, leader: bool = True) -> Iterator[Tracking]:
    """Within it, the trackers of ``reportTo`` follow the run of the leading process."""
    found = Tracking(report, output)
    trackers = (config.spec.report_to or ()) if leader else ()
    try:
        for tracker in trackers:
            found.start(tracker, config)
        yield found
    except Stopped:
        found.end("stopped")
        raise
    except BaseException:
        found.end("failed")
        raise
    finally:
        found.places()
