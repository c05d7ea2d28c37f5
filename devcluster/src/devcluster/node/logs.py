"""Reads a container's log: lines in the CRI log format, `TIMESTAMP stdout|stderr F|P TEXT`, P for a part of a line."""

import asyncio
import dataclasses
import datetime
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

POLL_SECONDS = 0.1

FULL = b"F"


@dataclasses.dataclass(frozen=True)
class LogOptions:
    """What of a log is wanted; the names are those of the API's PodLogOptions."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since: str = ""
    """The shortest timestamp that counts, in the log's own form; compares as text."""

    @staticmethod
    def of(query: Mapping[str, str], now: datetime.datetime) -> "LogOptions":
        """From the query of a log request. Raises ValueError for a number or time that is none."""
        since = ""
        if "sinceSeconds" in query:
            since = _text(now - datetime.timedelta(seconds=int(query["sinceSeconds"])))
        if "sinceTime" in query:
            since = _text(datetime.datetime.fromisoformat(query["sinceTime"].replace("Z", "+00:00")))
        return LogOptions(
            follow=query.get("follow") in ("true", "1"),
            previous=query.get("previous") in ("true", "1"),
            timestamps=query.get("timestamps") in ("true", "1"),
            tail_lines=int(query["tailLines"]) if "tailLines" in query else None,
            limit_bytes=int(query["limitBytes"]) if "limitBytes" in query else None,
            since=since,
        )


def _text(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


async def read_log(log: Path, options: LogOptions, ended: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yields what the options ask for; with `follow`, until `ended` says that nothing will come any more."""
    left = options.limit_bytes
    async for chunk in _chunks(log, options, ended):
        if left is None:
            yield chunk
        else:
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return


async def _chunks(log: Path, options: LogOptions, ended: Callable[[], bool]) -> AsyncIterator[bytes]:
    while not log.exists():
        if not options.follow or ended():
            return
        await asyncio.sleep(POLL_SECONDS)
    with log.open("rb") as file:
        lines: Iterator[bytes] | deque[bytes] = (line for line in whole_lines(file) if is_since(line, options.since))
        if options.tail_lines is not None:
            lines = deque(lines, maxlen=options.tail_lines)
        for line in lines:
            yield shown(line, options.timestamps)
        while options.follow:
            last = ended()  # asked before reading: what was written before the end is still read
            new = b"".join(shown(line, options.timestamps) for line in whole_lines(file))
            if new:
                yield new
            elif last:
                return
            else:
                await asyncio.sleep(POLL_SECONDS)


def whole_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines that are complete; the file stays at the beginning of the one that is not."""
    while True:
        begin = file.tell()
        line = file.readline()
        if not line.endswith(b"\n"):
            file.seek(begin)
            return
        yield line


def is_since(line: bytes, since: str) -> bool:
    """Whether a line was written at or after a moment."""
    return not since or line[: len(since)].decode(errors="replace") >= since


def shown(line: bytes, timestamps: bool) -> bytes:
    """A line as a user sees it: with its timestamp if asked, without an end if it is a part."""
    moment, _, tag, text = line.rstrip(b"\n").split(b" ", 3)
    end = b"\n" if tag == FULL else b""
    return (moment + b" " if timestamps else b"") + text + end


def tail(log: Path, lines: int = 80, limit: int = 2048) -> bytes:
    """The last output, for the termination message of a container that wrote none."""
    if not log.exists():
        return b""
    with log.open("rb") as file:
        return b"".join(deque((shown(line, False) for line in whole_lines(file)), maxlen=lines))[-limit:]
