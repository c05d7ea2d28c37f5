"""A data set, a workspace, and the steps of an upload into it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from model_garden.datasets.samples import create_vision_samples
from model_garden.storage.folder import FolderStorage
from model_garden.storage.interface import (
    FileDigest,
    Upload,
    UploadReport,
)

Steps = Callable[[Upload], Awaitable[UploadReport | None]]


async def blocks(content: bytes, block: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), block):
        yield content[start : start + block]


async def send(upload: Upload, folder: Path) -> None:
    """Add every file of a folder that is missing."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    wanted = await upload.missing([digest(path, folder) for path in files])
    for file in wanted:
        await upload.add(file.path, file.size, blocks((folder / file.path).read_bytes()))


def digest(path: Path, folder: Path) -> FileDigest:
    content = path.read_bytes()
    name = path.relative_to(folder).as_posix()
    return FileDigest(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def upload(workspace: Path, steps: Steps, folder: str = "shapes") -> UploadReport | None:
    async def run() -> UploadReport | None:
        async with FolderStorage(workspace).upload(folder) as receiving:
            return await steps(receiving)

    return asyncio.run(run())


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A data set of three rows and three images, outside the workspace."""
    folder = tmp_path / "sample"
    folder.mkdir()
    create_vision_samples(folder / "shapes.jsonl", 3)
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def whole(folder: Path, *, keep_invalid: bool = False) -> Steps:
    async def steps(receiving: Upload) -> UploadReport:
        await send(receiving, folder)
        return await receiving.finish(keep_invalid=keep_invalid)

    return steps
