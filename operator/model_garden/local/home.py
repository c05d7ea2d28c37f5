"""A folder as the home of TrainingJobs: opened by one server at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from model_garden.cluster import Cluster
from model_garden.local.runner import Runner
from model_garden.local.store import LocalStore
from model_garden.local.transport import local_cluster

FOLDER = ".model-garden"
"""Below the workspace: the jobs, and the logs and outcomes of their attempts."""


class FolderInUse(Exception):
    """Another server has the folder open."""


@dataclass(frozen=True)
class LocalHome:
    """The client for front doors, and the runner that trains."""

    cluster: Cluster
    runner: Runner


@contextmanager
def local_home(workspace: Path) -> Iterator[LocalHome]:
    """Open a workspace, the folder in which ``./data`` and ``./models`` are found.

    Raises:
        FolderInUse: another process has it open.
    """
    folder = workspace / FOLDER
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise FolderInUse(
                f"another model-garden serve (process {lock.read().strip()}) uses {workspace}; stop it, or serve "
                "another folder"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        store = LocalStore(folder / "jobs.sqlite")
        try:
            runs = folder / "runs"
            yield LocalHome(local_cluster(store, runs), Runner(store, runs, workspace))
        finally:
            store.close()
