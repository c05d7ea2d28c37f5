"""``/training/{name}``: one job, live; what may be asked of it; its log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Request
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.responses import RedirectResponse, Response

from model_garden.api.live import RETRY_MILLISECONDS, Held, open_feed
from model_garden.services.actions import Change, change_job, delete_job
from model_garden.services.errors import NotFound
from model_garden.services.feed import Feed, job_changes
from model_garden.services.job_view import has_ended
from model_garden.services.logs import read_log
from model_garden.services.queries import find_job
from model_garden.services.repeatable import create_once
from model_garden.services.submission import job_to_rerun
from model_garden.services.trainer_log import log_line
from model_garden.web import views
from model_garden.web.pages import PageRoute, page, problem_of, text
from model_garden.web.security import SENT_BY_A_PAGE, PageCaller

router = APIRouter(route_class=PageRoute, include_in_schema=False)
Name = Annotated[str, Path(pattern=r"^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$")]
LOG_LINES = 500
EVENT_STREAM = "text/event-stream"


@router.get("/training/{name}")
async def show_job(request: Request, caller: PageCaller, name: Name) -> Response:
    """The page of one job."""
    job = await find_job(caller.cluster, caller.namespace, name)
    return page(request, "job_page.html", job=views.details(job, views.now()), in_namespace=caller.namespace)


@router.get("/training/{name}/live")
async def follow_job(request: Request, caller: PageCaller, name: Name) -> Response:
    """The changing part of the page after each change, as server-sent events; the event ``end`` is the last one."""
    job = await find_job(caller.cluster, caller.namespace, name)
    feed, held = await open_feed(request, caller)
    return Held(held, _job_events(request, feed, job), EVENT_STREAM)


async def _job_events(request: Request, feed: Feed, job: dict[str, Any]) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RETRY_MILLISECONDS)
    try:
        async for change in job_changes(feed, job):
            if change is None:
                yield KEEPALIVE_COMMENT
            elif change.type == "DELETED":
                yield format_sse_event(
                    event="job", data_str=text(request, "job_gone.html", name=job["metadata"]["name"])
                )
            else:
                html = text(request, "job_live.html", job=views.details(change.object, views.now()))
                yield format_sse_event(event="job", id=change.object["metadata"]["resourceVersion"], data_str=html)
    except Exception as failed:  # the browser connects again
        html = text(request, "job_trouble.html", problem=problem_of(failed))
        yield format_sse_event(event="trouble", data_str=html)
        return
    yield format_sse_event(event="end", data_str="{}")


@router.get("/training/{name}/logs")
async def show_logs(request: Request, caller: PageCaller, name: Name, search: str = "") -> Response:
    """The last lines of the job's log; with ``HX-Request`` they alone."""
    job = await find_job(caller.cluster, caller.namespace, name)
    try:
        log = await read_log(caller.cluster, job, LOG_LINES)
        lines = [words for line in log.lines if (words := log_line(line)) is not None]
        note = "The pod is gone; these are the last lines that the status kept." if log.from_status else ""
    except NotFound as nothing:
        lines, note = [], str(nothing)
    template = "log_lines.html" if request.headers.get("hx-request") else "log_page.html"
    return page(
        request,
        template,
        name=name,
        ended=has_ended(job),
        lines=[line for line in lines if search.lower() in line.lower()],
        note=note,
        search=search,
        most=LOG_LINES,
    )


@router.post("/training/{name}/delete", dependencies=SENT_BY_A_PAGE)
async def delete(request: Request, caller: PageCaller, name: Name) -> Response:
    """Delete the job and show the list."""
    await delete_job(caller.cluster, caller.namespace, name)
    return _to("/training", request)


@router.post("/training/{name}/rerun", dependencies=SENT_BY_A_PAGE)
async def rerun(request: Request, caller: PageCaller, name: Name) -> Response:
    """Create a job with the same spec and show its page."""
    job = await job_to_rerun(caller.cluster, caller.namespace, name, {})
    created = await create_once(caller.cluster, job, caller.namespace, named=True)
    return _to(f"/training/{created.job['metadata']['name']}", request)


@router.post("/training/{name}/{change}", dependencies=SENT_BY_A_PAGE)
async def ask(request: Request, caller: PageCaller, name: Name, change: Change) -> Response:
    """Ask for a change and show the job."""
    await change_job(caller.cluster, caller.namespace, name, change)
    return _to(f"/training/{name}", request)


def _to(path: str, request: Request) -> Response:
    namespace = request.query_params.get("namespace")
    return RedirectResponse(f"{path}?{urlencode({'namespace': namespace})}" if namespace else path, 303)
