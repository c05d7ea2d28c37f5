"""The bounds of a multipart body: its size, its files, and how long its sender may take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from fastapi import Request

from model_garden.api import uploads
from model_garden.api.problems import BadRequest
from model_garden.api.uploads import received_files

HEAD = b'--b\r\nContent-Disposition: form-data; name="f"; filename="%s"\r\nContent-Type: image/png\r\n\r\n'
END = b"\r\n--b--\r\n"


def part(path: bytes, content: bytes) -> bytes:
    return HEAD % path + content + b"\r\n"


async def received(chunks: AsyncIterator[bytes]) -> dict[str, bytes]:
    """The files of a body that arrives in these chunks."""

    async def receive() -> dict[str, object]:
        chunk = await anext(chunks, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    headers = [(b"content-type", b'multipart/form-data; boundary="b"')]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    found = {}
    async with aclosing(received_files(request)) as files:
        async for file in files:
            found[file.digest.path] = b"".join([block async for block in file.content()])
            assert len(found[file.digest.path]) == file.digest.size
    return found


async def chunked(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
def test_files_are_the_same_however_the_body_is_cut(size: int) -> None:
    files = {
        "a.jsonl": b"{}\n",
        "images/empty.png": b"",
        "images/ä b.png": b"\r\n--a\r\n--" * 9,
        "x": bytes(range(256)),
    }
    body = b"".join(part(path.encode(), content) for path, content in files.items()) + b"--b--\r\n"
    assert asyncio.run(received(chunked(body, size))) == files


def test_a_file_larger_than_memory_allows_is_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "IN_MEMORY", 1000)
    content = bytes(5000)
    assert asyncio.run(received(chunked(part(b"a", content) + b"--b--\r\n", 700))) == {"a": content}


def test_uploads_leave_the_temporary_folder_some_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes evicts a pod that fills it, with all that others upload at that time."""
    space = uploads.TemporarySpace(1000)
    monkeypatch.setattr(uploads, "temporary_space", lambda: space)
    several = part(b"a", bytes(900)) + part(b"b", bytes(900)) + b"--b--\r\n"  # one after the other
    assert len(asyncio.run(received(chunked(several, 64)))) == 2
    with pytest.raises(BadRequest, match=r"larger than 1,000 bytes.* model-garden upload") as refused:
        asyncio.run(received(chunked(part(b"a", bytes(1001)), 64)))
    assert refused.value.status == 413
    space.take(200, 200)  # another request's
    with pytest.raises(BadRequest, match="send it again later") as refused:
        asyncio.run(received(chunked(several, 64)))
    assert refused.value.status == 503
    space.give_back(200)
    assert len(asyncio.run(received(chunked(several, 64)))) == 2


def test_a_body_without_an_announced_size_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_BYTES", 1000)
    with pytest.raises(BadRequest, match=r"the body is larger than 1,000 bytes") as refused:
        asyncio.run(received(chunked(part(b"a", bytes(2000)) + END, 100)))
    assert refused.value.status == 413


def test_the_number_of_files_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_FILES", 2)
    with pytest.raises(BadRequest, match="more than 2 files") as refused:
        asyncio.run(received(chunked(part(b"a", b"") + part(b"b", b"") + part(b"c", b"") + END, 50)))
    assert refused.value.status == 413


@pytest.mark.parametrize("header", [b"X-Long: " + b"x" * 100_000, b"\r\n".join([b"X-Many: x"] * 1000)])
def test_the_headers_of_a_part_are_bounded(header: bytes) -> None:
    body = b"--b\r\n" + header + b'\r\nContent-Disposition: form-data; filename="a"\r\n\r\n' + END
    with pytest.raises(BadRequest, match="is not multipart/form-data"):
        asyncio.run(received(chunked(body, 1000)))


def test_a_sender_that_falls_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_SECONDS", 0.05)

    async def silent() -> AsyncIterator[bytes]:
        yield part(b"a", b"x")
        await asyncio.Event().wait()

    with pytest.raises(BadRequest, match="the body did not arrive in time") as refused:
        asyncio.run(received(silent()))
    assert refused.value.status == 408


def test_a_sender_that_drips_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_SECONDS", 0.1)

    async def dripping() -> AsyncIterator[bytes]:
        yield HEAD % b"a"
        while True:
            await asyncio.sleep(0.02)
            yield b"x"

    with pytest.raises(BadRequest, match="less than 16,384 bytes a second"):
        asyncio.run(received(dripping()))


def test_a_slow_storage_does_not_count_as_a_slow_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_SECONDS", 0.2)
    body = part(b"a", b"x") + part(b"b", b"x") + part(b"c", b"x") + END

    async def run() -> int:
        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": next(sent, b""), "more_body": True}

        sent = iter([body[start : start + 60] for start in range(0, len(body), 60)])
        headers = [(b"content-type", b"multipart/form-data; boundary=b")]
        count = 0
        async for _ in received_files(Request({"type": "http", "method": "POST", "headers": headers}, receive)):
            await asyncio.sleep(0.15)
            count += 1
            if count == 3:
                break
        return count

    assert asyncio.run(run()) == 3
