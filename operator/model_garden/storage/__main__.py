"""``python -m model_garden.storage VERB``: the storage of the current folder over stdin and stdout, for use in a pod.

The first line of stdin is a JSON object, the argument of the verb. The answer is one JSON line on stdout; of
``archive`` it is the tar stream itself. On failure, the exit code is 1, and the last line of stderr is a JSON object:
``error``, the name of an error class of ``interface`` or ``services.errors``; ``problems``, its lines; and for
``BrokenDataset`` also ``report``, an UploadReport.

==========  ===================  ========================
verb        argument             answer
==========  ===================  ========================
datasets    ``{}``               list of StoredDataset
models      ``{}``               list of StoredModel
preview     PreviewRequest       Preview
check       DatasetQuestion      the report of ``check``
remove      ``{"path": PATH}``   ``null``
archive     ``{"path": PATH}``   a tar stream
upload      ``{"folder": NAME}`` ``null``, then as below
==========  ===================  ========================

``upload`` also takes ``used_by``, the names of jobs that read the folder. After the answer ``null``, it reads one JSON
line for each step:

* ``{"missing": [FileDigest, …]}``; the answer is the list of those that are missing.
* ``{"add": {"path": PATH, "size": BYTES}}``, followed by exactly that many bytes; there is no answer.
* ``{"finish": {"keep_invalid": false, "reading": Reading}}``; the answer is the UploadReport, and the process ends.

If stdin ends before ``finish``, nothing of the upload is kept.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from model_garden.services.errors import ServiceError
from model_garden.storage.folder import FolderStorage
from model_garden.storage.idle import busy
from model_garden.storage.interface import (
    BrokenDataset,
    DatasetQuestion,
    FileDigest,
    PreviewRequest,
    Reading,
    UploadRefused,
)

BLOCK = 1024 * 1024
_FILES = TypeAdapter(list[FileDigest])


def main(verb: str) -> int:
    """Carry out one verb; the exit code."""
    try:
        asyncio.run(_carry_out(verb))
    except ServiceError as failed:
        print(json.dumps(failure(failed)), file=sys.stderr)
        return 1
    except (ValidationError, ValueError, KeyError) as unknown:
        print(json.dumps(failure(ServiceError(f"{verb}: the request is not understood: {unknown}"))), file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever asked is gone
        return 1
    return 0


def failure(failed: ServiceError) -> dict[str, Any]:
    """An error as the last line of stderr has it."""
    found: dict[str, Any] = {"error": type(failed).__name__, "problems": failed.problems}
    if isinstance(failed, BrokenDataset):
        found["report"] = failed.report.model_dump(mode="json")
    return found


async def _carry_out(verb: str) -> None:
    storage, argument = FolderStorage(Path.cwd()), await _line()
    match verb:
        case "datasets":
            await _tell(await storage.datasets())
        case "models":
            await _tell(await storage.models())
        case "preview":
            await _tell(await storage.preview(PreviewRequest.model_validate(argument)))
        case "check":
            await _tell(await storage.check(DatasetQuestion.model_validate(argument)))
        case "remove":
            await storage.remove(argument["path"])
            await _tell(None)
        case "archive":
            async for block in storage.archive(argument["path"]):
                await _write(block)
        case "upload":
            await _upload(storage, argument["folder"], argument.get("used_by", []))
        case _:
            raise ValueError("there is no such verb")


async def _upload(storage: FolderStorage, folder: str, used_by: list[str]) -> None:
    async with storage.upload(folder, used_by) as upload:
        await _tell(None)
        while True:
            match await _line():
                case {"missing": files}:
                    await _tell(await upload.missing(_FILES.validate_python(files)))
                case {"add": {"path": str(path), "size": int(size)}}:
                    await upload.add(path, size, _content(size))
                case {"finish": {"keep_invalid": bool(keep), "reading": reading}}:
                    await _tell(await upload.finish(Reading.model_validate(reading), keep_invalid=keep))
                    return
                case step:
                    raise ValueError(f"there is no step {sorted(step)}")


async def _line() -> dict[str, Any]:
    line = await asyncio.to_thread(sys.stdin.buffer.readline)
    if not line.endswith(b"\n"):
        raise UploadRefused("the connection ended before the request was complete; send it again")
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError("a line is no JSON object")
    return value


async def _content(size: int) -> AsyncIterator[bytes]:
    """The next bytes of stdin; fewer than ``size`` if it ends before."""
    left = size
    while left and (block := await asyncio.to_thread(sys.stdin.buffer.read, min(BLOCK, left))):
        left -= len(block)
        yield block


async def _tell(value: Any) -> None:
    await _write(TypeAdapter(Any).dump_json(value) + b"\n")


async def _write(content: bytes) -> None:
    await asyncio.to_thread(sys.stdout.buffer.write, content)
    await asyncio.to_thread(sys.stdout.buffer.flush)


if __name__ == "__main__":
    with busy():
        sys.exit(main(sys.argv[1]))
