"""Files of a browser on their way into the storage: sent by a script that shows progress, or by a plain form."""

from __future__ import annotations

import json
from contextlib import aclosing
from pathlib import PurePosixPath
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from model_garden.api.access import Caller
from model_garden.api.problems import BadRequest, response_to
from model_garden.api.uploads import received_files
from model_garden.services.in_use import users_of
from model_garden.services.queries import list_jobs
from model_garden.storage.interface import BrokenDataset, UploadReport
from model_garden.storage.paths import data_path
from model_garden.web import form_data, new_job
from model_garden.web.pages import PageRoute, problem_of
from model_garden.web.security import COUNTED, CSRF_FIELD, PageCaller, check_csrf_token, check_origin

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.post("/training/new/upload", dependencies=COUNTED)
async def upload_files(request: Request, caller: PageCaller) -> Response:
    """Store the files, then show the form with their data set. A script gets the report, or the problem, as JSON."""
    by_script = request.headers.get("accept") == "application/json"
    try:
        report = await _receive(request, caller)
    except Exception as failed:
        if by_script:
            return _with_columns(response_to(failed), failed)
        problem = problem_of(failed)
        lines = [f"{one.field}: {one.message}" for one in problem.errors or ()] or [problem.detail]
        return new_job.show_upload_problems(request, caller, lines, problem.status)
    if by_script:
        return JSONResponse(report.model_dump(mode="json"))
    query = {"dataset_path": report.path, "namespace": request.query_params.get("namespace", "")}
    return RedirectResponse(f"/training/new?{urlencode({key: value for key, value in query.items() if value})}", 303)


def _with_columns(response: JSONResponse, failed: Exception) -> JSONResponse:
    """A response with ``suggested_columns``, where a data set needs a ``columnMapping``."""
    checks = failed.report.checks if isinstance(failed, BrokenDataset) else []
    columns = next((check["suggested_columns"] for check in checks if check.get("suggested_columns")), None)
    if not columns:
        return response
    said = json.loads(bytes(response.body)) | {"suggested_columns": columns}
    return JSONResponse(said, response.status_code, media_type=response.media_type)


async def _receive(request: Request, caller: Caller) -> UploadReport:
    """Store the files of the request; its fields come before them.

    Raises:
        BadRequest: another page sent it, or it has no file.
        BrokenDataset: the data set cannot be trained on, and the form does not ask to keep it.
    """
    check_origin(request)
    jobs = await list_jobs(caller.cluster, caller.namespace)  # a wrong token sends no file here
    fields: dict[str, str] = {}
    async with aclosing(received_files(request, fields)) as files:
        first = await anext(files, None)
        check_csrf_token(request, fields.get(CSRF_FIELD, ""))
        if first is None:
            raise BadRequest("choose at least one file", 422)
        folder = fields.get("folder", "").strip() or folder_for(first.digest.path)
        reading = form_data.reading(fields)
        async with caller.storage.upload(folder, users_of(jobs, data_path(folder))) as upload:
            if await upload.missing([first.digest]):
                await upload.add(first.digest.path, first.digest.size, first.content())
            async for file in files:
                if await upload.missing([file.digest]):
                    await upload.add(file.digest.path, file.digest.size, file.content())
            return await upload.finish(reading, keep_invalid=fields.get("keep_invalid") == "true")


def folder_for(path: str) -> str:
    """The folder of a data set whose first file is ``path``: ``receipts`` for ``receipts.jsonl``."""
    return PurePosixPath(PurePosixPath(path).parts[0]).stem
