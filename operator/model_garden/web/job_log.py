"""``/training/{name}/logs``: the log of each pod that trained."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from model_garden.api.access import Caller
from model_garden.services.errors import NotFound
from model_garden.services.job_view import has_ended
from model_garden.services.logs import JobLog, read_log
from model_garden.services.queries import find_job
from model_garden.services.trainer_log import log_line
from model_garden.web.job_page import Name
from model_garden.web.pages import PageRoute, page
from model_garden.web.security import HEADERS, PageCaller

router = APIRouter(route_class=PageRoute, include_in_schema=False)
LINES = 1000
STOP_POLLING = 286
"""The status with which htmx ends a trigger such as ``every 4s``. Source: https://htmx.org/docs/#polling"""


@router.get("/training/{name}/logs")
async def show_logs(request: Request, caller: PageCaller, name: Name, search: str = "", pod: str = "") -> Response:
    """The last lines of a pod's log, of the latest if none is named; with ``HX-Request`` they alone."""
    job = await find_job(caller.cluster, caller.namespace, name)
    lines, note = [], ""
    try:
        log = await read_log(caller.cluster, job, LINES, pod or None)
        lines = [line for line in _words(log) if search.lower() in line.lower()]
        note = "The pod is gone; these are the last lines that the status kept." if log.from_status else ""
    except NotFound as nothing:
        note = str(nothing)
    alone, ended = bool(request.headers.get("hx-request")), has_ended(job)
    return page(
        request,
        "log_lines.html" if alone else "log_page.html",
        STOP_POLLING if alone and ended else 200,
        name=name,
        ended=ended,
        lines=lines,
        note=note,
        search=search,
        most=LINES,
        pod=pod,
        pods=pods(job),
    )


@router.get("/training/{name}/logs/download")
async def download_log(caller: PageCaller, name: Name, pod: str = "") -> Response:
    """The whole log of a pod as a text file."""
    lines = await _whole(caller, name, pod)
    headers = {"Content-Disposition": f'attachment; filename="{pod or name}.log"'}
    return PlainTextResponse("".join(f"{line}\n" for line in lines), headers=HEADERS | headers)


async def _whole(caller: Caller, name: str, pod: str) -> list[str]:
    job = await find_job(caller.cluster, caller.namespace, name)
    if pod and pod not in pods(job):
        raise NotFound(f"{name} has no pod {pod}")
    return _words(await read_log(caller.cluster, job, None, pod or None))


def _words(log: JobLog) -> list[str]:
    return [words for line in log.lines if (words := log_line(line)) is not None]


def pods(job: dict[str, Any]) -> list[str]:
    """The pods of a job whose logs may be there, the oldest first."""
    status = job.get("status") or {}
    found = [one["pod"] for one in (*(status.get("stages") or ()), *(status.get("attempts") or ()))]
    if status.get("podName"):
        found.append(status["podName"])
    return list(dict.fromkeys(found))
