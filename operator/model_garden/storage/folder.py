"""A folder of this machine as the home of data sets and models: local mode, and what runs inside a pod."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from model_garden.services.errors import Conflict, NotFound, Unavailable
from model_garden.storage.interface import (
    DatasetQuestion,
    InvalidPath,
    Preview,
    PreviewRequest,
    StorageFailed,
    StoredDataset,
    StoredModel,
    Upload,
)
from model_garden.storage.listing import is_inside, list_datasets, list_models
from model_garden.storage.paths import DATA, stored_path


class FolderStorage:
    """The ``Storage`` of a workspace, the folder that holds ``data`` and ``models``."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace

    async def datasets(self) -> list[StoredDataset]:
        """The data sets by name."""
        with storage_errors("./data"):
            return await asyncio.to_thread(list_datasets, self._workspace)

    async def models(self) -> list[StoredModel]:
        """The models by name."""
        with storage_errors("./models"):
            return await asyncio.to_thread(list_models, self._workspace)

    async def preview(self, request: PreviewRequest) -> Preview:
        """Rows of a data set."""
        del request
        raise Unavailable("preview is not written yet")

    async def check(self, question: DatasetQuestion) -> dict[str, Any]:
        """The report of ``model-garden validate``."""
        del question
        raise Unavailable("check is not written yet")

    def upload(self, folder: str) -> AbstractAsyncContextManager[Upload]:
        """Begin an upload."""
        del folder
        raise Unavailable("upload is not written yet")

    async def remove(self, path: str) -> None:
        """Delete a data set or a model."""
        target = removable(self._workspace, path)
        with storage_errors(path):
            await asyncio.to_thread(shutil.rmtree if target.is_dir() else Path.unlink, target)

    def archive(self, path: str) -> AsyncIterator[bytes]:
        """A tar stream."""
        del path
        raise Unavailable("archive is not written yet")


def existing(workspace: Path, path: str) -> Path:
    """The file or folder that a path names.

    Raises:
        InvalidPath: the path breaks a rule, or a link in it leads elsewhere.
        NotFound: there is none.
    """
    root, rest = stored_path(path)
    found = workspace / root / rest
    if not is_inside(found, workspace / root):
        raise InvalidPath(f"{path}: a symbolic link leads out of ./{root}; copy the files into ./{root}")
    if not found.exists():
        raise NotFound(f"there is no {path}")
    return found


def removable(workspace: Path, path: str) -> Path:
    """The file or folder to delete for the data set or model that a path names.

    Raises:
        InvalidPath, NotFound: as ``existing``.
        Conflict: it is a link, or one file of a folder that holds more data files.
    """
    found = existing(workspace, path)
    root, rest = stored_path(path)
    name = rest.split("/")[0]
    whole = workspace / root / name
    if whole.is_symlink():
        raise Conflict(f"./{root}/{name} is a symbolic link to {whole.readlink()}; delete the link itself")
    if found == whole:
        return whole
    listed = next((one for one in list_datasets(workspace) if one.name == name), None) if root == DATA else None
    if listed is None or Path(listed.path) != Path(root, rest):
        raise Conflict(f"{path} is a part of ./{root}/{name}; to delete all of it, name ./{root}/{name}")
    return whole


@contextlib.contextmanager
def storage_errors(path: str) -> Iterator[None]:
    """Turn an error of the file system into ``StorageFailed``, which names the file."""
    try:
        yield
    except OSError as failed:
        raise StorageFailed(f"{failed.filename or path}: {failed.strerror or failed}") from failed
