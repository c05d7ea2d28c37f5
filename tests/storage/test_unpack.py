"""A model arrives whole or not at all, and nothing is written outside its folder."""

import asyncio
import hashlib
import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from model_garden.services.errors import Conflict
from model_garden.storage.interface import StorageFailed
from model_garden.storage.unpack import unpack

CONTENT = b"weights" * 1000


def stream(*members: tuple[str, bytes, bytes], sums: str | None = None) -> bytes:
    """A tar of (name, content, type), with SHA256SUMS of the plain files unless ``sums`` is given."""
    made = io.BytesIO()
    listed = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name.partition('/')[2]}\n" for name, content, _ in members
    )
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content, kind in [*members, ("m/SHA256SUMS", (sums or listed).encode(), tarfile.REGTYPE)]:
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(content), kind, "/etc/passwd"
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def unpacked(content: bytes, folder: Path) -> int:
    async def blocks() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 1000):
            yield content[start : start + 1000]

    return asyncio.run(unpack(blocks(), folder, lambda _: None))


def test_files_arrive_in_a_new_folder(tmp_path: Path) -> None:
    content = stream(("m/a.bin", CONTENT, tarfile.REGTYPE), ("m/merged/b.bin", b"", tarfile.REGTYPE))
    assert unpacked(content, tmp_path / "new/model") == 2
    assert (tmp_path / "new/model/a.bin").read_bytes() == CONTENT
    assert (tmp_path / "new/model/merged/b.bin").read_bytes() == b""
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (stream(("m/a", CONTENT, tarfile.REGTYPE))[:3000], "incomplete"),
        (b"", "incomplete"),
        (stream(("m/a", CONTENT, tarfile.REGTYPE), sums="0  a\n"), "a: arrived with another SHA-256"),
        (stream(("m/a", CONTENT, tarfile.REGTYPE), sums=f"{'0' * 64}  b\n"), "another SHA-256"),
        (stream(("m/../../a", CONTENT, tarfile.REGTYPE)), "leads out of the folder"),
        (stream(("/etc/a", CONTENT, tarfile.REGTYPE)), "no file in a folder"),
        (stream(("m/a", b"", tarfile.SYMTYPE)), "no file in a folder"),
        (stream(("m/a", b"", tarfile.LNKTYPE)), "no file in a folder"),
        (stream(("m/a", b"", tarfile.FIFOTYPE)), "no file in a folder"),
    ],
)
def test_what_is_wrong_leaves_nothing(tmp_path: Path, content: bytes, problem: str) -> None:
    with pytest.raises(StorageFailed, match=problem):
        unpacked(content, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_folder_with_files_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine").touch()
    with pytest.raises(Conflict, match="exists already"):
        unpacked(stream(("m/a", CONTENT, tarfile.REGTYPE)), tmp_path / "model")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["mine"]


def test_what_a_killed_download_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".model.partial").mkdir()
    (tmp_path / ".model.partial/a").write_bytes(b"half")
    unpacked(stream(("m/a", CONTENT, tarfile.REGTYPE)), tmp_path / "model")
    assert (tmp_path / "model/a").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
