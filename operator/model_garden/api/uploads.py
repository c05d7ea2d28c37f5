"""The files of a multipart/form-data body (RFC 7578), one by one, each in a temporary file while it arrives."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from functools import cache
from tempfile import SpooledTemporaryFile

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from model_garden.api.body import MAX_SECONDS
from model_garden.api.problems import BadRequest
from model_garden.builders.resources import amount_of
from model_garden.storage.interface import FileDigest
from model_garden.storage.paths import relative_path

MAX_BYTES = 100 * 1024**3
"""Of the whole body."""
MAX_FILES = 100_000
MIN_RATE = 16 * 1024
"""Bytes a second that a client must send on average."""
MAX_FIELD = 4096
"""Bytes of a value that is no file."""
IN_MEMORY = 1024 * 1024
"""A larger file is on disk while it arrives."""
BLOCK = 1024 * 1024


SPACE = "MODEL_GARDEN_TEMPORARY_STORAGE"
"""Variable with the size of the temporary folder, such as ``1Gi``. Kubernetes evicts a pod that fills it, so that
uploads use at most nine tenths of it."""


@cache
def temporary_space() -> TemporarySpace:
    """The space of this process."""
    size = os.environ.get(SPACE)
    return TemporarySpace(int(amount_of(size)) * 9 // 10 if size else None)


class TemporarySpace:
    """What all uploads together may hold in temporary files, in bytes; None is no limit."""

    def __init__(self, limit: int | None) -> None:
        self._limit, self._used = limit, 0

    def take(self, size: int, file_size: int) -> None:
        """Take the space for a further block of a file.

        Raises:
            BadRequest: the file is too large for the folder (413), or it is filled by other uploads (503).
        """
        if self._limit is not None and file_size > self._limit:
            raise BadRequest(
                f"a file is larger than {self._limit:,} bytes, for which this server has space; send it with "
                "model-garden upload, or ask an administrator to raise the chart's api.temporaryStorage",
                413,
            )
        if self._limit is not None and self._used + size > self._limit:
            raise BadRequest("other uploads fill the temporary storage of this server; send it again later", 503)
        self._used += size

    def give_back(self, size: int) -> None:
        """The space of a closed file."""
        self._used -= size


@dataclass
class ReceivedFile:
    """A file that has arrived as a whole."""

    digest: FileDigest
    file: SpooledTemporaryFile[bytes]

    async def content(self) -> AsyncIterator[bytes]:
        """Its blocks."""
        self.file.seek(0)
        while block := await asyncio.to_thread(self.file.read, BLOCK):
            yield block


async def received_files(request: Request, fields: dict[str, str] | None = None) -> AsyncGenerator[ReceivedFile]:
    """The files of the body. Each is closed when the next one is asked for.

    Args:
        request: the request.
        fields: where the values of parts without a file name are put, as forms of a browser send them; None refuses
            such parts. Those before a file are there when it is yielded.

    Raises:
        BadRequest: the body is no multipart/form-data, is too large, has too many files or a part without a file name,
            or does not arrive in time.
        InvalidPath: a file name breaks a rule.
    """
    parser = _Parser(_boundary(request))
    part: _Part | None = None
    count = files = 0
    try:
        async for chunk in _chunks(request):
            for event, data in parser.feed(chunk):
                if event == "headers":
                    count += 1
                    if count > MAX_FILES:
                        raise BadRequest(f"the body has more than {MAX_FILES:,} files; send several requests", 413)
                    field = None if fields is None else _field_name(data)
                    part = _Part(field or _file_name(data), is_field=bool(field))
                    files += not field
                elif event == "data" and part:
                    part.reserve(len(data))
                    await asyncio.to_thread(part.write, data)
                elif part and fields is not None and part.is_field:
                    fields[part.path] = part.text()
                    part.close()
                elif part:
                    yield part.received()
                    part.close()
    finally:
        if part:
            part.close()
    if not parser.ended:
        raise BadRequest("the body ends before its last boundary; send it again")
    if not files:
        raise BadRequest("the body has no file; send at least one", 422)


class _Part:
    """A file that is arriving, or the value of a field."""

    def __init__(self, path: str, *, is_field: bool) -> None:
        self.path, self.is_field, self.size, self.sha256 = path, is_field, 0, hashlib.sha256()
        self.file = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
        self._space, self._reserved = temporary_space(), 0

    def reserve(self, size: int) -> None:
        self._space.take(size, self._reserved + size)
        self._reserved += size

    def close(self) -> None:
        self.file.close()
        self._space.give_back(self._reserved)
        self._reserved = 0

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self.sha256.update(data)
        self.size += len(data)
        if self.is_field and self.size > MAX_FIELD:
            raise BadRequest(f"the field {self.path!r} is longer than {MAX_FIELD:,} bytes", 413)

    def text(self) -> str:
        self.file.seek(0)
        return self.file.read().decode("utf-8", "replace")

    def received(self) -> ReceivedFile:
        digest = FileDigest(path=self.path, size=self.size, sha256=self.sha256.hexdigest())
        return ReceivedFile(digest, self.file)


class _Parser:
    """Turns chunks into events: ``headers`` with Content-Disposition, ``data``, and ``end`` of each part."""

    def __init__(self, boundary: bytes) -> None:
        self.ended = False
        self._events: list[tuple[str, bytes]] = []
        self._name, self._value, self._disposition = b"", b"", b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": lambda: self._events.append(("headers", self._disposition)),
                "on_part_data": lambda data, start, end: self._events.append(("data", data[start:end])),
                "on_part_end": lambda: self._events.append(("end", b"")),
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> list[tuple[str, bytes]]:
        self._events = []
        try:
            self._parser.write(chunk)
        except FormParserError as wrong:
            raise BadRequest(f"the body is not multipart/form-data: {wrong}") from wrong
        return self._events

    def _begin(self) -> None:
        self._name, self._value, self._disposition = b"", b"", b""

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name, self._value = b"", b""

    def _end(self) -> None:
        self.ended = True


def _boundary(request: Request) -> bytes:
    given = request.headers.get("content-type", "")
    kind, options = parse_options_header(given)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise BadRequest(f"the Content-Type is {given or 'missing'}; send multipart/form-data with a boundary", 415)
    return options[b"boundary"]


def _field_name(disposition: bytes) -> str | None:
    """The name of a part without a file: of a field, or of a file input for which no file was chosen."""
    _, options = parse_options_header(disposition)
    return None if options.get(b"filename") else options.get(b"name", b"").decode("utf-8", "replace") or None


def _file_name(disposition: bytes) -> str:
    """The path of a part's file, such as ``images/cat.jpg``."""
    _, options = parse_options_header(disposition)
    if b"filename" not in options:
        name = options.get(b"name", b"").decode("utf-8", "replace")
        raise BadRequest(f"the part {name!r} has no file name; send each file with its path as its file name", 422)
    return relative_path(options[b"filename"].decode("utf-8", "surrogateescape"))


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """The body as it arrives. Only the time in which the client is waited for counts."""
    announced = request.headers.get("content-length", "")
    too_large = BadRequest(f"the body is larger than {MAX_BYTES:,} bytes; send the files in several requests", 413)
    if announced.isdecimal() and int(announced) > MAX_BYTES:
        raise too_large
    arrived, waited = 0, 0.0
    stream = request.stream()
    while True:
        started = time.monotonic()
        try:
            async with asyncio.timeout(min(MAX_SECONDS, MAX_SECONDS + arrived / MIN_RATE - waited)):
                chunk = await anext(stream, None)
        except ClientDisconnect as gone:
            raise BadRequest("the connection ended before the body arrived; send it again") from gone
        except TimeoutError as slow:
            raise BadRequest(
                f"the body did not arrive in time: for {MAX_SECONDS:.0f} seconds nothing came, or less than "
                f"{MIN_RATE:,} bytes a second",
                408,
            ) from slow
        waited += time.monotonic() - started
        if chunk is None:
            return
        arrived += len(chunk)
        if arrived > MAX_BYTES:
            raise too_large
        yield chunk
