"""An upload becomes visible at once or not at all, and loses nothing of another."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from model_garden.datasets.samples import create_text_samples
from model_garden.services.errors import Conflict
from model_garden.storage import disk, uploading
from model_garden.storage.folder import FolderStorage
from model_garden.storage.interface import (
    StorageFailed,
    Upload,
)
from tests.storage.uploads import (
    files_of,
    names,
    send,
    upload,
    whole,
)


def test_a_broken_off_upload_leaves_nothing(workspace: Path, sample: Path) -> None:
    class GoneError(Exception):
        pass

    async def half(receiving: Upload) -> None:
        await send(receiving, sample)

        async def breaks() -> AsyncIterator[bytes]:
            yield b"half"
            raise GoneError

        await receiving.add("late.png", 100, breaks())

    with pytest.raises(GoneError):
        upload(workspace, half)
    assert names(workspace / "data") == []


def test_an_upload_cancelled_while_it_is_checked_is_whole(workspace: Path, sample: Path) -> None:
    checking, go_on = threading.Event(), threading.Event()

    async def run(patch: pytest.MonkeyPatch) -> None:
        def slowly(folder: Path) -> dict[str, int]:
            checking.set()
            go_on.wait()
            return {}

        patch.setattr(uploading, "_identities", slowly)
        task = asyncio.ensure_future(receive())
        await asyncio.to_thread(checking.wait)
        task.cancel()
        await asyncio.wait((task,), timeout=0.2)  # it may not end, nor discard anything, before the check
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def receive() -> None:
        async with FolderStorage(workspace).upload("shapes") as receiving:
            await whole(sample)(receiving)

    with pytest.MonkeyPatch.context() as patch:
        asyncio.run(run(patch))
    assert files_of(workspace / "data/shapes") == files_of(sample)
    assert names(workspace / "data") == ["shapes"]


def test_a_folder_keeps_its_name_where_another_cannot_take_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_exchange", lambda *_: False)  # as on a network file system
    (tmp_path / "shapes").mkdir()
    with pytest.raises(FileNotFoundError):
        disk.swap(tmp_path / "not-there", tmp_path / "shapes")
    assert names(tmp_path) == ["shapes"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_reader_sees_the_old_folder_or_the_new_one(
    workspace: Path, sample: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(disk, "_exchange", lambda *_: False)
    create_text_samples(sample / "rows.jsonl", 400)
    upload(workspace, whole(sample))
    old = (sample / "rows.jsonl").read_bytes()
    create_text_samples(sample / "new.jsonl", 300)
    (sample / "new.jsonl").rename(sample / "rows.jsonl")
    new = (sample / "rows.jsonl").read_bytes()
    seen: list[bytes | None] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                seen.append((workspace / "data/shapes/rows.jsonl").read_bytes())
            except FileNotFoundError:
                seen.append(None)
        seen.append((workspace / "data/shapes/rows.jsonl").read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    with (workspace / "data/shapes/rows.jsonl").open("rb") as opened:
        upload(workspace, whole(sample))
        assert opened.read() == old, "a reader that has the file open keeps it"
    done.set()
    reader.join()
    assert set(seen) <= ({old, new} if exchange else {old, new, None})
    assert seen[-1] == new
    assert names(workspace / "data") == ["shapes"]


def test_two_uploads_into_one_folder_lose_nothing(workspace: Path, sample: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    create_text_samples(other / "text.jsonl", 2)
    upload(workspace, whole(sample))

    async def run(patch: pytest.MonkeyPatch) -> None:
        storage = FolderStorage(workspace)
        found = uploading._checks_of

        def meanwhile(*arguments: object) -> object:
            patch.setattr(uploading, "_checks_of", found)
            upload(workspace, whole(other))
            return found(*arguments)  # type: ignore[arg-type]

        async with storage.upload("shapes") as first:
            await first.missing([])
            create_text_samples(sample / "late.jsonl", 1)
            await send(first, sample)
            patch.setattr(uploading, "_checks_of", meanwhile)
            with pytest.raises(Conflict, match=r"\./data/shapes was changed by someone else"):
                await first.finish()

    with pytest.MonkeyPatch.context() as patch:
        asyncio.run(run(patch))
    assert "text.jsonl" in files_of(workspace / "data/shapes")
    assert "late.jsonl" not in files_of(workspace / "data/shapes")


def test_a_file_that_was_skipped_and_then_replaced_is_a_change(workspace: Path, sample: Path, tmp_path: Path) -> None:
    upload(workspace, whole(sample))
    other = tmp_path / "other"
    other.mkdir()
    (other / "shapes.jsonl").write_text((sample / "shapes.jsonl").read_text().splitlines(keepends=True)[0])

    async def run() -> None:
        async with FolderStorage(workspace).upload("shapes") as first:
            await send(first, sample)  # all of it is there already
            async with FolderStorage(workspace).upload("shapes") as second:
                await send(second, other)
                await second.finish()
            with pytest.raises(Conflict, match=r"\./data/shapes was changed by someone else"):
                await first.finish()

    asyncio.run(run())


def test_a_file_system_without_hard_links_gets_copies(
    workspace: Path, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    upload(workspace, whole(sample))
    monkeypatch.setattr(os, "link", refused)
    create_text_samples(sample / "more.jsonl", 1)
    upload(workspace, whole(sample))
    assert files_of(workspace / "data/shapes") == files_of(sample)


def test_a_storage_that_cannot_be_written_is_named(workspace: Path, sample: Path) -> None:
    (workspace / "data").write_text("no folder")
    with pytest.raises(StorageFailed, match=r"^\./data/?.*: (Not a directory|File exists)"):
        upload(workspace, whole(sample))


def test_what_a_killed_process_left_is_removed_later(workspace: Path, sample: Path) -> None:
    for name in ("old", "new"):
        folder = workspace / "data" / f".upload-{name}"
        folder.mkdir(parents=True)
        (folder / "half.png").write_bytes(b"half")
    long_ago = 1_000_000_000
    for path in (workspace / "data/.upload-old/half.png", workspace / "data/.upload-old"):
        os.utime(path, (long_ago, long_ago))
    os.utime(workspace / "data/.upload-new", (long_ago, long_ago))
    upload(workspace, whole(sample))
    assert names(workspace / "data") == [".upload-new", "shapes"]
