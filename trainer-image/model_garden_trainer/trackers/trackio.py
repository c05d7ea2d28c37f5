"""Trackio: a local database in the output folder, a Trackio server, or a Space."""

from __future__ import annotations

import os
from typing import Any

from model_garden_trainer.trackers.points import Point
from model_garden_trainer.trackers.state import State
from model_garden_trainer.trackers.tracked_run import Result, TrackedRun

PACKAGE = "trackio"
FOLDER_ENV = "TRACKIO_DIR"


class TrackioWriter:
    """Writes to one run of Trackio."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def write(self, points: list[Point]) -> None:
        """Hand the points to the library."""
        for point in points:
            self._run.log(point.figures, step=point.step)

    def end(self, result: Result) -> None:  # noqa: ARG002  it keeps no status of a run
        """Send what is left."""
        self._run.finish()


def start(run: TrackedRun, state: State) -> TrackioWriter:
    """Create the run, or continue that of ``state``."""
    os.environ.setdefault(FOLDER_ENV, str(run.folder / "trackio"))
    import trackio

    found = trackio.init(
        run.project,
        name=run.name,
        server_url=run.uri,
        config=run.spec,
        resume="allow" if state.id else "never",
        embed=False,
    )
    state.id = found.id
    if space := os.environ.get("TRACKIO_SPACE_ID"):
        state.url = f"https://huggingface.co/spaces/{space}"
    else:
        state.url = run.uri or os.environ.get("TRACKIO_SERVER_URL")
    state.path = None if state.url else os.environ[FOLDER_ENV]
    return TrackioWriter(found)
