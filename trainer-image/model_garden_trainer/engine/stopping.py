"""How a run is asked to end early: by a signal (checkpoint, exit 143, resume later) or by a person who wants the model
as it is now (evaluate, save, export, succeed).

SIGTERM and SIGINT stop. The annotation ``model-garden.dev/stop: save`` saves. In a pod the kubelet writes it to
``podinfo/annotations``; elsewhere who started the trainer writes it to the file that MODEL_GARDEN_ANNOTATIONS names.
A file is heard by a process that is still starting too, and by each of several.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from model_garden.contract.names import ANNOTATION_STOP, ANNOTATIONS_ENV, POD_ANNOTATIONS


class StopRequests:
    """What was asked of this process so far.

    While ``interruptible`` (a model loads, an export writes: nothing would be lost), a signal calls ``on_interrupt`` at
    once; during training the loop writes a checkpoint at the end of its step. A second signal does not wait.
    """

    def __init__(self) -> None:
        self.stop = False
        self.interruptible = True
        self.on_interrupt: Callable[[], None] = lambda: None
        self._save = False
        self._annotations = Path(os.environ.get(ANNOTATIONS_ENV, POD_ANNOTATIONS))

    def listen(self) -> None:
        """Take the signals over; only the main thread may call this."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)

    @property
    def save(self) -> bool:
        """Whether a person asked to end training early and keep the model."""
        self._save = self._save or _annotation(self._annotations, ANNOTATION_STOP) == "save"
        return self._save

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        again, self.stop = self.stop, True
        if self.interruptible or again:
            self.on_interrupt()


def _annotation(path: Path, name: str) -> str | None:
    """One annotation from a downward API file, whose lines read ``name="value"`` with Go's escapes, or None."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition("=")
        if key == name:
            try:
                return str(json.loads(value))
            except ValueError:
                return value.strip('"')
    return None
