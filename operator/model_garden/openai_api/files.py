"""``/v1/files``: data sets to train on, and the figures of jobs that have ended.

The id of a file is the name of its folder in ``./data``, made from its name and content: the same file sent again is
the same data set.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import PurePosixPath
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse

from model_garden.api.access import Caller
from model_garden.api.uploads import received_files
from model_garden.cluster import TRAINING_JOBS
from model_garden.openai_api.access import COUNTED, CallerOf
from model_garden.openai_api.documents import FILE_PREFIX, file_document, listing, page
from model_garden.openai_api.request import Invalid
from model_garden.openai_api.results import is_result, result_content, result_document
from model_garden.services.errors import NotFound
from model_garden.services.in_use import refuse_in_use
from model_garden.services.queries import find_job
from model_garden.storage.interface import StoredDataset

router = APIRouter(prefix="/files")

BLOCK = 1024 * 1024
PURPOSE = "fine-tune"


@router.post("", dependencies=COUNTED)
async def create_file(request: Request, caller: CallerOf) -> Response:
    """Check a data set and keep it. A broken one is refused with its rows named, and not kept."""
    await caller.cluster.page(TRAINING_JOBS, caller.namespace, limit=1)  # a wrong token sends no file here
    fields: dict[str, str] = {}
    identifier, upload = "", None
    async with AsyncExitStack() as held, aclosing(received_files(request, fields)) as files:
        async for file in files:
            if upload:
                raise Invalid("file", "is given twice; send one file in a request")
            name = _file_name(file.digest.path)
            identifier = _identifier(name, file.digest.sha256)
            upload = await held.enter_async_context(caller.storage.upload(identifier))
            if await upload.missing([file.digest.model_copy(update={"path": name})]):
                await upload.add(name, file.digest.size, file.content())
        _check_fields(fields)
        assert upload  # a body without a file is refused
        await upload.finish()
    return JSONResponse(file_document(await find_file(caller, identifier)))


@router.get("")
async def list_files(
    caller: CallerOf,
    after: Annotated[str | None, Query(max_length=512)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: str | None = None,
) -> Response:
    """The files that were uploaded."""
    found = [one for one in await caller.storage.datasets() if one.name.startswith(FILE_PREFIX)]
    found = found if purpose in (None, PURPOSE) else []
    documents = [file_document(one) for one in sorted(found, key=lambda one: one.modified, reverse=order == "desc")]
    places = page([document["id"] for document in documents], after, limit)
    return JSONResponse(listing([documents[place] for place in places], has_more=places.stop < len(documents)))


@router.get("/{identifier}")
async def get_file(caller: CallerOf, identifier: str) -> Response:
    """Get one file."""
    if job := is_result(identifier):
        return JSONResponse(result_document(await find_job(caller.cluster, caller.namespace, job)))
    return JSONResponse(file_document(await find_file(caller, identifier)))


@router.get("/{identifier}/content", dependencies=COUNTED)
async def get_content(caller: CallerOf, identifier: str) -> Response:
    """The content of one file."""
    if job := is_result(identifier):
        text = result_content(await find_job(caller.cluster, caller.namespace, job))
        return Response(text, media_type="text/csv")
    stored = await find_file(caller, identifier)
    return StreamingResponse(_content(caller, stored.data_files[0]), media_type="application/octet-stream")


@router.delete("/{identifier}")
async def delete_file(caller: CallerOf, identifier: str) -> Response:
    """Delete one file, unless a job that has not ended uses it."""
    stored = await find_file(caller, identifier)
    await refuse_in_use(caller.cluster, caller.namespace, stored.path)
    await caller.storage.remove(stored.path)
    return JSONResponse({"id": identifier, "object": "file", "deleted": True})


async def find_file(caller: Caller, identifier: str) -> StoredDataset:
    """The data set of an uploaded file.

    Raises:
        NotFound: there is no such file.
    """
    if identifier.startswith(FILE_PREFIX):
        for one in await caller.storage.datasets():
            if one.name == identifier:
                return one
    raise NotFound(f"there is no file {identifier!r}")


async def dataset_path(caller: Caller, param: str, given: str) -> str:
    """The data set that ``training_file`` names: an id, or as nobody at OpenAI can, a path or ``hf://datasets/…``.

    Raises:
        Invalid: there is no such file.
    """
    if not re.fullmatch(rf"{FILE_PREFIX}[\w-]+", given):
        return given
    try:
        return (await find_file(caller, given)).path
    except NotFound as missing:
        raise Invalid(param, f"{missing}; upload it, or give a path such as ./data/receipts.jsonl") from missing


def _check_fields(fields: dict[str, str]) -> None:
    """Refuse what is not available here.

    Raises:
        Invalid: the first such parameter.
    """
    if (purpose := fields.pop("purpose", None)) != PURPOSE:
        raise Invalid("purpose", f"{purpose!r} is not available; use {PURPOSE}")
    for name in fields:
        raise Invalid(name, "is not available; remove it")


def _identifier(name: str, digest: str) -> str:
    return FILE_PREFIX + hashlib.sha256(f"{name}\0{digest}".encode()).hexdigest()[:24]


def _file_name(name: str) -> str:
    """The name of an uploaded file without its folders; OpenAI's files are JSON lines, with or without the suffix."""
    base = PurePosixPath(name).name
    return base if PurePosixPath(base).suffix else f"{base}.jsonl"


async def _content(caller: Caller, path: str) -> AsyncIterator[bytes]:
    """One file, out of the archive of it."""
    with tempfile.TemporaryFile() as archive:
        async for block in caller.storage.archive(path):
            await run_in_threadpool(archive.write, block)
        archive.seek(0)
        with tarfile.open(fileobj=archive) as members:
            wanted = PurePosixPath(path).name
            member = next(one for one in members if PurePosixPath(one.name).name == wanted)
            content = members.extractfile(member)
            assert content
            while block := await run_in_threadpool(content.read, BLOCK):
                yield block
