"""TrainingJobs in a SQLite file. Each change gets the next version, as in an API server, so that it can be watched."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import uuid
from pathlib import Path
from typing import Any, Literal

from model_garden.contract.time import timestamp

Object = dict[str, Any]
ChangeType = Literal["ADDED", "MODIFIED", "DELETED"]

NAMESPACE = "default"
"""The only namespace of this machine."""
KEPT_CHANGES = 1000


class Stale(Exception):
    """An object has another version than the caller has read."""


class TooOld(Exception):
    """The changes since a version are no longer kept: list again."""


class LocalStore:
    """The TrainingJobs of one folder. It belongs to one process and one event loop.

    The jobs are also in memory, since the runner reads all of them twice a second. Do not change what is returned.
    """

    def __init__(self, file: Path) -> None:
        self._database = sqlite3.connect(file, isolation_level=None)
        self._database.executescript(
            """
            PRAGMA journal_mode = WAL;
            CREATE TABLE IF NOT EXISTS jobs (name TEXT PRIMARY KEY, resource TEXT NOT NULL);
            CREATE TABLE IF NOT EXISTS changes (
                version INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT NOT NULL, resource TEXT NOT NULL
            );
            """
        )
        rows = self._database.execute("SELECT name, resource FROM jobs").fetchall()
        self._jobs: dict[str, Object] = {name: json.loads(resource) for name, resource in rows}
        self._waiting: set[asyncio.Event] = set()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @property
    def version(self) -> int:
        """The version of the last change; 0 before the first."""
        row = self._database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'changes'").fetchone()
        return int(row[0]) if row else 0

    def all(self) -> list[Object]:
        """All TrainingJobs, by name."""
        return [self._jobs[name] for name in sorted(self._jobs)]

    def at(self, version: int) -> list[Object]:
        """All TrainingJobs as they were after the change with this version, by name.

        Raises:
            TooOld: what has changed since is no longer kept.
        """
        jobs = {job["metadata"]["name"]: job for job in self.all()}
        first: dict[str, ChangeType] = {}
        for kind, job in self.changes_since(version):
            first.setdefault(job["metadata"]["name"], kind)
        for name, kind in first.items():
            jobs.pop(name, None)
            if kind != "ADDED":
                jobs[name] = self._before(version, name)
        return [jobs[name] for name in sorted(jobs)]

    def _before(self, version: int, name: str) -> Object:
        query = (
            "SELECT resource FROM changes WHERE version <= ? AND json_extract(resource, '$.metadata.name') = ? "
            "ORDER BY version DESC LIMIT 1"
        )
        row = self._database.execute(query, (version, name)).fetchone()
        if row is None:
            raise TooOld(str(version))
        found: Object = json.loads(row[0])
        return found

    def get(self, name: str) -> Object | None:
        """One TrainingJob, None if there is none."""
        return self._jobs.get(name)

    def create(self, resource: Object) -> Object:
        """Keep a new TrainingJob, and return it with its uid, time and version."""
        return self._write("ADDED", with_identity(resource))

    def replace(self, resource: Object) -> Object:
        """Keep a changed TrainingJob, and return it with its new version.

        Raises:
            Stale: it has changed since it was read, or is gone.
        """
        current = self.get(resource["metadata"]["name"])
        read = resource["metadata"]["resourceVersion"]
        if current is None or current["metadata"]["resourceVersion"] != read:
            raise Stale(resource["metadata"]["name"])
        return self._write("MODIFIED", resource)

    def delete(self, name: str) -> None:
        """Drop a TrainingJob, if it exists."""
        resource = self.get(name)
        if resource is not None:
            self._write("DELETED", resource)

    def changes_since(self, version: int) -> list[tuple[ChangeType, Object]]:
        """The changes after ``version``, the oldest first.

        Raises:
            TooOld: some of them are no longer kept.
        """
        if version < self.version - KEPT_CHANGES:
            raise TooOld(str(version))
        query = "SELECT type, resource FROM changes WHERE version > ? ORDER BY version"
        return [(row[0], json.loads(row[1])) for row in self._database.execute(query, (version,)).fetchall()]

    async def wait(self, version: int, seconds: float | None = None) -> None:
        """Wait until there is a change after ``version``, at most so many seconds."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            if self.version <= version:
                async with asyncio.timeout(seconds):
                    await event.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting.discard(event)

    def _write(self, kind: ChangeType, resource: Object) -> Object:
        version = self.version + 1
        resource = resource | {"metadata": resource["metadata"] | {"resourceVersion": str(version)}}
        name, text = resource["metadata"]["name"], json.dumps(resource)
        with self._database:
            self._database.execute("BEGIN")
            self._database.execute("INSERT INTO changes VALUES (?, ?, ?)", (version, kind, text))
            self._database.execute("DELETE FROM changes WHERE version <= ?", (version - KEPT_CHANGES,))
            if kind == "DELETED":
                self._database.execute("DELETE FROM jobs WHERE name = ?", (name,))
            else:
                self._database.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?)", (name, text))
        if kind == "DELETED":
            self._jobs.pop(name, None)
        else:
            self._jobs[name] = json.loads(text)
        for event in self._waiting:
            event.set()
        return resource


def with_identity(resource: Object) -> Object:
    """A new TrainingJob with its namespace, uid and time of creation."""
    given = {"namespace": NAMESPACE, "uid": str(uuid.uuid4()), "creationTimestamp": timestamp(), "generation": 1}
    return resource | {"metadata": resource["metadata"] | given}
