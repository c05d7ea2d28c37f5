"""An upload is checked: its rows, its files, and their names."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from model_garden.datasets.samples import create_text_samples, create_vision_samples
from model_garden.services.errors import Conflict
from model_garden.storage.interface import (
    BrokenDataset,
    FileDigest,
    InvalidPath,
    Reading,
    Upload,
    UploadRefused,
    UploadReport,
)
from tests.storage.uploads import (
    blocks,
    files_of,
    names,
    send,
    upload,
    whole,
)


def test_a_data_set_arrives_with_its_images_and_report(workspace: Path, sample: Path) -> None:
    report = upload(workspace, whole(sample))
    assert report and (report.folder, report.path) == ("./data/shapes", "./data/shapes/shapes.jsonl")
    assert (report.stored, report.added, report.skipped) == (True, 4, 0)
    [check] = report.checks
    assert (check["path"], check["kind"], check["rows"], check["images"]) == (report.path, "vision", 3, 3)
    assert files_of(workspace / "data") == {f"shapes/{name}": text for name, text in files_of(sample).items()}


def test_the_folder_can_be_read_by_others(workspace: Path, sample: Path) -> None:
    upload(workspace, whole(sample))
    plain = workspace / "plain"
    plain.mkdir()
    assert (workspace / "data/shapes").stat().st_mode == plain.stat().st_mode


def test_what_is_there_already_is_skipped_and_what_else_is_there_stays(workspace: Path, sample: Path) -> None:
    upload(workspace, whole(sample))
    (workspace / "data/shapes/.notes").write_text("mine")
    (workspace / "data/shapes/more").mkdir()
    create_text_samples(workspace / "data/shapes/more/other.jsonl", 2)
    create_vision_samples(sample / "more.jsonl", 1)
    before = (workspace / "data/shapes/shapes.jsonl").stat().st_ino
    report = upload(workspace, whole(sample))
    assert report and (report.added, report.skipped) == (2, 4)
    assert (workspace / "data/shapes/shapes.jsonl").stat().st_ino == before, "nothing was copied"
    assert (workspace / "data/shapes/.notes").read_text() == "mine"
    assert report.path == "./data/shapes" and len(report.checks) == 3


def test_a_changed_file_is_sent_again_and_replaced(workspace: Path, sample: Path) -> None:
    upload(workspace, whole(sample))
    lines = (sample / "shapes.jsonl").read_text().splitlines()
    (sample / "shapes.jsonl").write_text("\n".join(lines[:2]) + "\n")
    report = upload(workspace, whole(sample))
    assert report and (report.added, report.replaced, report.skipped) == (1, 1, 3)
    assert report.checks[0]["rows"] == 2


@pytest.mark.parametrize("keep", [False, True])
def test_a_broken_data_set_is_stored_only_if_that_is_asked(workspace: Path, sample: Path, keep: bool) -> None:
    with (sample / "shapes.jsonl").open("a") as file:
        file.write('{"text": "What is it?", "image": "nowhere.png", "response": "A circle."}\n')
    line = (
        "./data/shapes/shapes.jsonl row 4: the image './data/shapes/nowhere.png' cannot be read: No such file or "
        "directory; check the path; a relative path starts from the data file's folder"
    )
    if keep:
        report = upload(workspace, whole(sample, keep_invalid=True))
        assert report and report.stored and report.checks[0]["problems"] == [line]
        return
    with pytest.raises(BrokenDataset) as refused:
        upload(workspace, whole(sample))
    assert refused.value.problems == [line] and not refused.value.report.stored
    assert names(workspace / "data") == []


def test_a_folder_without_rows_is_no_data_set(workspace: Path, sample: Path) -> None:
    (sample / "shapes.jsonl").unlink()
    with pytest.raises(BrokenDataset, match=r"\./data/shapes: has no data file; accepted: \.jsonl"):
        upload(workspace, whole(sample))


@pytest.mark.parametrize("image", ["/etc/passwd", "../../secret.png", "../linked/secret.png", "file:///etc/passwd"])
def test_a_row_cannot_name_a_file_outside_the_data_folder(workspace: Path, sample: Path, image: str) -> None:
    (workspace / "data").mkdir()
    (workspace / "data/linked").symlink_to(workspace)
    (sample / "shapes_images/0001.png").rename(workspace / "secret.png")
    (sample / "shapes.jsonl").write_text(f'{{"text": "What is it?", "image": "{image}", "response": "A secret."}}\n')
    with pytest.raises(BrokenDataset, match=r"shapes\.jsonl row 1: .* is outside \./data;"):
        upload(workspace, whole(sample))


def test_rows_may_name_images_of_another_data_set(workspace: Path, sample: Path) -> None:
    upload(workspace, whole(sample))
    row = '{"text": "What is it?", "image": "../shapes/shapes_images/0001.png", "response": "A shape."}\n'
    for path in sample.rglob("*.png"):
        path.unlink()
    (sample / "shapes.jsonl").write_text(row)
    report = upload(workspace, whole(sample), "again")
    assert report and report.checks[0]["images"] == 1


def test_the_path_for_a_job_is_the_uploaded_file_whatever_else_the_folder_holds(workspace: Path, sample: Path) -> None:
    upload(workspace, whole(sample))
    (sample / "shapes.jsonl").rename(sample / "better.jsonl")
    report = upload(workspace, whole(sample))
    assert report and report.path == "./data/shapes/better.jsonl"
    assert (workspace / "data/shapes/shapes.jsonl").exists()


@pytest.mark.parametrize(
    ("size", "content", "words"),
    [
        (3, b"four", r"a\.jsonl: has more than the announced 3 bytes"),
        (5, b"four", r"a\.jsonl: only 4 of 5 bytes arrived"),
        (4, b"five", r"a\.jsonl: its SHA-256 is not \w+, as announced; send the file again"),
    ],
)
def test_a_file_is_what_was_announced(workspace: Path, size: int, content: bytes, words: str) -> None:
    async def steps(receiving: Upload) -> None:
        announced = FileDigest(path="a.jsonl", size=4, sha256=hashlib.sha256(b"four").hexdigest())
        await receiving.missing([announced])
        await receiving.add("a.jsonl", size, blocks(content))

    with pytest.raises(UploadRefused, match=words):
        upload(workspace, steps)
    assert names(workspace / "data") == []


def test_a_file_that_arrived_broken_can_be_sent_again(workspace: Path, sample: Path) -> None:
    async def steps(receiving: Upload) -> UploadReport:
        content = (sample / "shapes_images/0001.png").read_bytes()
        with pytest.raises(UploadRefused):
            await receiving.add("shapes_images/0001.png", len(content), blocks(content[:-1]))
        return (await whole(sample)(receiving)) or pytest.fail()

    report = upload(workspace, steps)
    assert report and report.added == 4


@pytest.mark.parametrize("path", ["../x.jsonl", "/etc/x.jsonl", ".hidden", "a\\b", "a\0b", "a" * 300])
def test_a_file_cannot_leave_the_folder(workspace: Path, path: str) -> None:
    async def added(receiving: Upload) -> None:
        await receiving.add(path, 1, blocks(b"x"))

    async def announced(receiving: Upload) -> None:
        await receiving.missing([FileDigest(path=path, size=1, sha256="0" * 64)])

    for steps in (added, announced):
        with pytest.raises(InvalidPath):
            upload(workspace, steps)


def test_a_name_is_a_file_or_a_folder(workspace: Path, sample: Path) -> None:
    async def both(receiving: Upload) -> None:
        await receiving.add("a", 1, blocks(b"x"))
        await receiving.add("a/b", 1, blocks(b"x"))

    async def other(receiving: Upload) -> None:
        await receiving.add("shapes_images", 1, blocks(b"x"))
        await receiving.finish()

    with pytest.raises(UploadRefused, match="a/b: the name is that of a file and of a folder"):
        upload(workspace, both)
    upload(workspace, whole(sample))
    with pytest.raises(Conflict, match=r"shapes_images/0001\.png: the name is that of a file and of a folder"):
        upload(workspace, other)


def test_a_folder_that_is_a_link_or_a_file_is_not_replaced(workspace: Path, sample: Path, tmp_path: Path) -> None:
    (workspace / "data").mkdir()
    (workspace / "data/linked").symlink_to(tmp_path)
    (workspace / "data/file").write_text("mine")
    for name in ("linked", "file"):
        with pytest.raises(Conflict, match=rf"\./data/{name} is a file or a symbolic link"):
            upload(workspace, whole(sample), name)


def test_own_columns_are_read_as_the_job_reads_them(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/rows.jsonl").write_text('{"question": "2+2?", "answer": "4"}\n')
    columns = {"prompt": "question", "response": "answer"}

    async def steps(receiving: Upload) -> UploadReport:
        await send(receiving, tmp_path / "own")
        return await receiving.finish(Reading(column_mapping=columns))

    with pytest.raises(BrokenDataset) as refused:
        upload(workspace, whole(tmp_path / "own"))
    assert refused.value.report.checks[0]["suggested_columns"] == columns
    report = upload(workspace, steps)
    assert report and report.checks[0]["ok"]
