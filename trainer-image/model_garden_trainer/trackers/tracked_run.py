"""The run as a tracker sees it, and what each tracker's module makes of it: a ``Writer``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from model_garden.contract.trainer_config import TrainerConfig, for_record
from model_garden_trainer.exports.outputs import TRACKERS
from model_garden_trainer.trackers.points import Point

Result = Literal["finished", "stopped", "failed"]
"""How an attempt ended. A stopped one is continued by the next."""

TIMEOUT_SECONDS = 10
"""How long a request to a tracker may take."""


class Writer(Protocol):
    """Sends points to one tracker. Each method raises an exception of the tracker's library if it cannot."""

    def write(self, points: list[Point]) -> None:
        """Send ``points``, in the order of their positions."""

    def end(self, result: Result) -> None:
        """End the run, or this part of it."""


@dataclass(frozen=True)
class TrackedRun:
    """One run.

    Args:
        job: the job's name.
        project: the project or the experiment.
        name: the run's name in it.
        uri: the server of the tracker; None for that of the tracker's variables.
        output: the output folder.
        spec: the effective spec in camelCase, without names of claims and Secrets.
    """

    job: str
    project: str
    name: str
    uri: str | None
    output: Path
    spec: dict[str, Any]

    @classmethod
    def of(cls, config: TrainerConfig) -> TrackedRun:
        """The run of a job whose spec has ``reportTo``."""
        spec, tracking = config.spec, config.spec.tracking
        assert tracking and tracking.project and tracking.run_name  # defaults
        output = Path(spec.output_dir).expanduser().absolute()
        return cls(config.name, tracking.project, tracking.run_name, tracking.uri, output, for_record(spec))

    @property
    def folder(self) -> Path:
        """The folder of the trackers' files."""
        return self.output / TRACKERS

    @property
    def parameters(self) -> dict[str, str]:
        """The values of the effective spec by their dotted paths: ``hyperparameters.learningRate``."""
        return dict(_flat(self.spec))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)
