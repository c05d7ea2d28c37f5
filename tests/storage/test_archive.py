"""A model leaves as a tar stream that a user's own tools can unpack and check."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from model_garden.services.errors import NotFound
from model_garden.storage.folder import FolderStorage
from model_garden.storage.interface import StorageFailed


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models/receipts"
    for name, size in {
        "adapter_model.safetensors": 3_000_001,
        "README.md": 0,
        "merged/model.safetensors": 512,
        f"{'long' * 40}/{'ü' * 100}.json": 700,
        "checkpoints/checkpoint-1/optimizer.pt": 10,
        "merging-x/model.safetensors": 10,
        "half.gguf.partial": 10,
        ".cache/x": 10,
        "SHA256SUMS": 10,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes(number % 251 for number in range(size)))
    return folder


async def stream(workspace: Path, path: str) -> bytes:
    return b"".join([block async for block in FolderStorage(workspace).archive(path)])


def test_a_downloaded_model_is_the_stored_one(tmp_path: Path, model: Path) -> None:
    content = asyncio.run(stream(tmp_path, "./models/receipts"))
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "xf", "-"], input=content, cwd=tmp_path / "out", check=True)
    folder = tmp_path / "out/receipts"
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert checked.stdout.count(": OK") == 4
    got = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    left_out = {"checkpoints/checkpoint-1/optimizer.pt", "merging-x/model.safetensors", "half.gguf.partial", ".cache/x"}
    assert got == {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()} - left_out
    for name in got - {"SHA256SUMS"}:
        assert (folder / name).read_bytes() == (model / name).read_bytes()


def test_a_part_of_a_model_can_be_fetched_alone(tmp_path: Path, model: Path) -> None:
    (tmp_path / "merged.tar").write_bytes(asyncio.run(stream(tmp_path, "models/receipts/merged")))
    listed = subprocess.run(["tar", "tf", "merged.tar"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert listed.stdout.split() == ["merged/model.safetensors", "merged/SHA256SUMS"]


def test_a_data_set_can_be_fetched_too(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rows.jsonl").write_text("{}\n")
    (tmp_path / "rows.tar").write_bytes(asyncio.run(stream(tmp_path, "./data/rows.jsonl")))
    listed = subprocess.run(["tar", "tf", "rows.tar"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert listed.stdout.split() == ["rows/rows.jsonl", "rows/SHA256SUMS"]


def test_a_model_that_is_written_meanwhile_is_not_sent_as_if_it_were_whole(tmp_path: Path, model: Path) -> None:
    async def read() -> None:
        blocks = FolderStorage(tmp_path).archive("./models/receipts")
        await anext(blocks)
        with (model / "adapter_model.safetensors").open("ab") as file:
            file.write(b"more")
        async for _ in blocks:
            pass

    with pytest.raises(StorageFailed, match=r"adapter_model\.safetensors changed while it was sent"):
        asyncio.run(read())


def test_a_run_that_only_has_checkpoints_has_nothing_to_download(tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "models/running/checkpoints"
    folder.mkdir(parents=True)
    (folder / "optimizer.pt").write_bytes(b"x")
    with pytest.raises(NotFound, match=r"\./models/running has no file to download yet"):
        asyncio.run(stream(tmp_path, "./models/running"))


def test_no_link_takes_a_file_from_elsewhere(tmp_path: Path, model: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (model / "config.json").symlink_to(tmp_path / "secret")
    assert b"secret" not in asyncio.run(stream(tmp_path, "./models/receipts"))
