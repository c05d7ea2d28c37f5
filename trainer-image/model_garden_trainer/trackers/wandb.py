"""Weights & Biases. Without a key or a server, the run is kept in the output folder for ``wandb sync``."""

from __future__ import annotations

import os
import uuid
from typing import Any

from model_garden_trainer.exports.outputs import TRACKERS
from model_garden_trainer.trackers.points import Point
from model_garden_trainer.trackers.state import State
from model_garden_trainer.trackers.tracked_run import TIMEOUT_SECONDS, Result, TrackedRun

PACKAGE = "wandb"
KEY_ENV = "WANDB_API_KEY"
MODE_ENV = "WANDB_MODE"


class WandbWriter:
    """Writes to one run of W&B. Its library sends in a process of its own, which tries again by itself."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def write(self, points: list[Point]) -> None:
        """Hand the points to the library."""
        for point in points:
            self._run.log(point.figures, step=point.step)

    def end(self, result: Result) -> None:
        """Send what is left, and end the run; W&B shows a failed one as such."""
        self._run.finish(exit_code=0 if result == "finished" else 1)


def start(run: TrackedRun, state: State) -> WandbWriter:
    """Create the run, or continue that of ``state``."""
    import wandb
    from wandb.errors import CommError

    state.id = state.id or uuid.uuid4().hex[:8]
    settings = wandb.Settings(
        base_url=run.uri or os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"),
        console="off",
        silent=True,
        init_timeout=TIMEOUT_SECONDS,
        finish_timeout=TIMEOUT_SECONDS,
    )

    def begin(mode: Any) -> Any:
        return wandb.init(
            project=run.project,
            name=run.name,
            id=state.id,
            resume="allow",
            dir=run.folder,
            config=run.spec,
            mode=mode,
            settings=settings,
        )

    mode = os.environ.get(MODE_ENV, "online" if os.environ.get(KEY_ENV) else "offline")
    if mode == "offline" and MODE_ENV not in os.environ:
        state.problem = f"{KEY_ENV} is not set"
    try:
        found = begin(mode)
    except CommError as error:
        state.problem = str(error).partition("\n")[0]
        wandb.teardown()
        found = begin("offline")
    state.url, state.path = (None, f"{TRACKERS}/wandb") if found.offline else (found.url, None)
    if state.problem:
        state.problem += "; the run is kept offline: run `wandb sync --sync-all` in the output's folder trackers/wandb"
    return WandbWriter(found)
