"""What is said with ``python -m model_garden.storage`` over the streams of a command: see there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from model_garden.cluster import ClusterError, Execution
from model_garden.services import errors
from model_garden.services.errors import ServiceError
from model_garden.storage import interface
from model_garden.storage.interface import BrokenDataset, UploadReport

MAX_LINE = 32 * 1024 * 1024
"""Bytes of an answer. Whoever may create pods in a namespace can make one that never stops to answer."""
ENDED = "PodEnded"
"""Why a command failed that was killed. So are all in a pod whose main process ends."""
ERRORS: dict[str, type[ServiceError]] = {
    error.__name__: error
    for error in (
        errors.Conflict,
        errors.MissingPackages,
        errors.NotFound,
        errors.Unavailable,
        interface.InvalidPath,
        interface.StorageFailed,
        interface.UploadRefused,
        ServiceError,
    )
}


class Conversation:
    """One verb: JSON lines and bytes to it, JSON lines or bytes from it. Every method raises its failure."""

    def __init__(self, command: Execution) -> None:
        self._command = command
        self._heard = b""

    async def say(self, value: Any) -> None:
        """Send one JSON line."""
        await self.send(json.dumps(value).encode() + b"\n")

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        try:
            await self._command.write(data)
        except ClusterError as broken:
            raise failure(self._command.stderr) or broken from broken

    async def begin(self) -> None:
        """Wait for the first piece of the answer, or for the failure in its place."""
        self._heard = await self._command.read()
        if not self._heard:
            await self.end()

    async def hear(self) -> Any:
        """The next JSON line."""
        pieces, size = [self._heard], len(self._heard)
        while b"\n" not in pieces[-1]:
            piece = await self._command.read()
            if not piece:
                await self.end()
                raise _cut_short(self._command.stderr, 0)
            pieces.append(piece)
            size += len(piece)
            if size > MAX_LINE:
                what = f"the answer of the storage pod is longer than {MAX_LINE:,} bytes"
                raise ClusterError(500, "StorageFailed", f"{what}; ask for fewer rows, or move files out of the folder")
        line, _, self._heard = b"".join(pieces).partition(b"\n")
        return json.loads(line)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Everything that is said until the end."""
        piece = self._heard
        while piece:
            yield piece
            piece = await self._command.read()

    async def end(self) -> None:
        """Wait until the verb has ended."""
        while await self._command.read():
            pass
        if code := await self._command.wait():
            raise failure(self._command.stderr) or _cut_short(self._command.stderr, code)


def failure(stderr: str) -> ServiceError | None:
    """The error that the last line of stderr describes; None if it describes none."""
    try:
        said = json.loads(stderr.strip().splitlines()[-1])
        if said["error"] == BrokenDataset.__name__:
            return BrokenDataset(UploadReport.model_validate(said["report"]))
        return ERRORS[said["error"]](*said["problems"])
    except (IndexError, KeyError, TypeError, ValueError):
        return None


def _cut_short(stderr: str, code: int) -> ClusterError:
    last = "".join(stderr.strip().splitlines()[-1:]) or "it said nothing"
    hint = "; exit code 137 means that it needed more memory than its limit, or was stopped" if code == 137 else ""
    reason = ENDED if code == 137 else "StorageFailed"
    return ClusterError(500, reason, f"the command in the storage pod ended with code {code}: {last}{hint}")
