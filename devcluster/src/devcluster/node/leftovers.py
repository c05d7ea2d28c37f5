"""Ends what runs in pods' folders without the node process: for `devcluster down` and for pods that are gone."""

import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from devcluster.node.runs import Run, runs_of


def kill_pods(pods: Path, grace: float = 3.0) -> None:
    """SIGTERM to every container of every pod, SIGKILL after `grace` seconds; returns when nothing is left."""
    folders = list(pods.iterdir()) if pods.is_dir() else []
    kill_runs([run for folder in folders for run in unfinished_runs(folder)], grace)


def unfinished_runs(pod: Path) -> Iterator[Run]:
    """The runs of a pod's containers that have not ended."""
    for container in (pod / "containers").glob("*"):
        yield from (run for run in runs_of(container) if not run.exit())


def kill_runs(runs: Iterable[Run], grace: float) -> None:
    """Ends runs and their shims. A shim that was itself killed leaves its container: that is ended too."""
    left = list(runs)
    for run in left:
        if container := run.container():
            container.signal(signal.SIGTERM)
    deadline = time.monotonic() + grace
    while left := [run for run in left if _alive(run)]:
        if time.monotonic() > deadline:
            for run in left:
                run.kill()
        time.sleep(0.02)


def _alive(run: Run) -> bool:
    return run.is_beginning() or any(process and process.alive for process in (run.container(), run.shim()))
