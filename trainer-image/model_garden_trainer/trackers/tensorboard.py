"""TensorBoard: event files in the folder ``runs`` of the output, where the Hub looks for them too."""

from __future__ import annotations

import json
from typing import Any

from model_garden_trainer.trackers.points import Point
from model_garden_trainer.trackers.state import State
from model_garden_trainer.trackers.tracked_run import Result, TrackedRun

PACKAGE = "tensorboard"
FOLDER = "runs"


class TensorBoardWriter:
    """Writes event files, without TensorFlow and torch."""

    def __init__(self, files: Any) -> None:
        self._files = files

    def write(self, points: list[Point]) -> None:
        """Write the points, and flush them."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        for point in points:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in point.figures.items()]
            self._files.add_event(Event(wall_time=point.seconds, step=point.step, summary=Summary(value=values)))
        self._files.flush()

    def end(self, result: Result) -> None:  # noqa: ARG002  it keeps no status of a run
        """Close the file."""
        self._files.close()


def start(run: TrackedRun, state: State) -> TensorBoardWriter:
    """Begin another file; TensorBoard shows the files of one folder as one run."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.text import metadata
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboard.util.tensor_util import make_tensor_proto

    folder = run.output / FOLDER
    files = EventFileWriter(str(folder))
    if state.path is None:  # the first attempt
        text = "```json\n" + json.dumps(run.spec, indent=2) + "\n```"
        described = metadata.create_summary_metadata("spec", "")
        value = Summary.Value(tag="spec", metadata=described, tensor=make_tensor_proto(text.encode()))
        files.add_event(Event(step=0, summary=Summary(value=[value])))
    state.path = FOLDER
    return TensorBoardWriter(files)
