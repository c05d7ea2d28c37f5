"""A folder of this machine as the home of data sets and models: local mode, and what runs inside a pod."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from model_garden.services.errors import Conflict, NotFound
from model_garden.storage import preview
from model_garden.storage.archive import tar_blocks
from model_garden.storage.disk import storage_errors
from model_garden.storage.interface import (
    DatasetQuestion,
    InvalidPath,
    Preview,
    PreviewRequest,
    StoredDataset,
    StoredModel,
    Upload,
)
from model_garden.storage.listing import (
    files_of_entry,
    is_inside,
    list_datasets,
    list_models,
    model_files,
)
from model_garden.storage.paths import DATA, MODELS, STAGING, folder_name, spell, stored_path
from model_garden.storage.uploading import FolderUpload, discard_stale


class FolderStorage:
    """The ``Storage`` of a workspace, the folder that holds ``data`` and ``models``."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace.absolute()
        self._data = self._workspace / DATA

    async def datasets(self) -> list[StoredDataset]:
        """The data sets by name."""
        with self._errors():
            return await asyncio.to_thread(list_datasets, self._workspace)

    async def models(self) -> list[StoredModel]:
        """The models by name."""
        with self._errors():
            return await asyncio.to_thread(list_models, self._workspace)

    async def preview(self, request: PreviewRequest) -> Preview:
        """Rows of a data set, broken ones among them."""
        with self._errors():
            path = existing(self._workspace, request.path, DATA)
            return await asyncio.to_thread(preview.preview, request, path, self._data, self._spell)

    async def check(self, question: DatasetQuestion) -> dict[str, Any]:
        """The report of ``check_data``, with the first broken rows."""
        with self._errors():
            path = existing(self._workspace, question.path, DATA)
            model = question.base_model and inside(self._workspace, question.base_model, MODELS)
            return await asyncio.to_thread(preview.check, question, path, self._data, self._spell, model or None)

    @contextlib.asynccontextmanager
    async def upload(self, folder: str, used_by: Sequence[str] = ()) -> AsyncIterator[Upload]:
        """Begin an upload into ``./data/FOLDER``."""
        upload = FolderUpload(self._data, folder_name(folder), used_by)
        await upload.begin()
        try:
            yield upload
        finally:
            await upload.discard()

    async def remove(self, path: str) -> None:
        """Delete a data set or a model."""
        with self._errors():
            entry = whole_entry(self._workspace, path)
            await asyncio.to_thread(_delete, entry)

    async def archive(self, path: str) -> AsyncIterator[bytes]:
        """A tar stream of a model or a data set."""
        with self._errors():
            root, _ = stored_path(path)
            entry = (existing if root == MODELS else whole_entry)(self._workspace, path)
            files = await asyncio.to_thread(files_of_entry, entry, self._workspace / root)
            if root == MODELS:
                files = model_files(files)
            if not files:
                raise NotFound(f"{path} has no file to download yet")
            blocks = tar_blocks(entry, files)
            while (block := await asyncio.to_thread(next, blocks, None)) is not None:
                yield block

    def _spell(self, text: str) -> str:
        return spell(text, self._workspace, ".")

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        return storage_errors(self._spell)


def existing(workspace: Path, path: str, *roots: str) -> Path:
    """The file or folder that a path names.

    Raises:
        InvalidPath: the path breaks a rule, or a link in it leads elsewhere.
        NotFound: there is none.
    """
    found = inside(workspace, path, *roots)
    if not found.exists():
        raise NotFound(f"there is no {path}")
    return found


def inside(workspace: Path, path: str, *roots: str) -> Path:
    """The place on this machine that a path names, whether something is there or not.

    Raises:
        InvalidPath: as ``existing``.
    """
    root, rest = stored_path(path, *roots)
    found = workspace / root / rest
    if not is_inside(found, workspace / root):
        raise InvalidPath(f"{path}: a symbolic link leads out of ./{root}; copy the files into ./{root}")
    return found


def whole_entry(workspace: Path, path: str) -> Path:
    """The file or folder, directly in ``data`` or ``models``, of the data set or model that a path names.

    Raises:
        InvalidPath, NotFound: as ``existing``.
        Conflict: it is a link, or the path names only a part of it.
    """
    found = existing(workspace, path)
    root, rest = stored_path(path)
    name = rest.split("/")[0]
    entry = workspace / root / name
    if entry.is_symlink():
        raise Conflict(f"./{root}/{name} is a symbolic link to {entry.readlink()}; name what it points to")
    if found == entry:
        return entry
    listed = next((one for one in list_datasets(workspace) if one.name == name), None) if root == DATA else None
    if listed is None or Path(listed.path) != Path(root, rest):
        raise Conflict(f"{path} is a part of ./{root}/{name}; name ./{root}/{name} for all of it")
    return entry


def _delete(entry: Path) -> None:
    """Delete a file or a folder. A half of it is never listed, not even if the process ends in between."""
    discard_stale(entry.parent)
    hidden = entry.with_name(f"{STAGING}{secrets.token_hex(8)}")
    entry.rename(hidden)
    if hidden.is_dir():
        shutil.rmtree(hidden)
    else:
        hidden.unlink()
