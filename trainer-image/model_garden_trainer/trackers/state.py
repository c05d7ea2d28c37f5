"""What a tracker's process keeps in the output folder: the run that a later attempt continues, and what was sent."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from model_garden_trainer.atomic_file import write_atomically
from model_garden_trainer.exports.outputs import TRACKERS


@dataclass
class State:
    """The state of one tracker.

    Args:
        id: the tracker's id of the run; None before there is one.
        url: the page of the run.
        path: the folder of the run's files, for a tracker without a server; relative to the output folder, or absolute.
        sent: the last position (see ``points.position``) that was sent.
        problem: why the last figures could not be sent.
    """

    id: str | None = None
    url: str | None = None
    path: str | None = None
    sent: tuple[int, int] = (-1, 0)
    problem: str | None = None

    @classmethod
    def read(cls, file: Path) -> State:
        """The state in ``file``; a new one where there is none."""
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return cls()
        return cls(**content | {"sent": tuple(content["sent"])})

    def write(self, file: Path) -> None:
        """Replace ``file``."""
        write_atomically(file, json.dumps(asdict(self)))


def state_file(output: Path, tracker: str) -> Path:
    """The file of a tracker's state."""
    return output / TRACKERS / f"{tracker}.json"
