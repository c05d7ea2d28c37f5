"""``/training/{name}``: one job, live; its curves, its sample answers, its model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.responses import JSONResponse, Response

from model_garden.api.downloads import archive
from model_garden.api.live import RETRY_MILLISECONDS, Held, open_feed
from model_garden.services.errors import NotFound
from model_garden.services.feed import Feed, job_changes
from model_garden.services.logs import read_log
from model_garden.services.queries import find_job, list_jobs
from model_garden.web.pages import PageRoute, page, problem_of, text
from model_garden.web.security import COUNTED, HEADERS, PageCaller
from model_garden.web.views import figures
from model_garden.web.views.job import details
from model_garden.web.views.output import answers
from model_garden.web.views.rows import now

router = APIRouter(route_class=PageRoute, include_in_schema=False)
Name = Annotated[str, Path(pattern=r"^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$")]
EVENT_STREAM = "text/event-stream"
NO_TROUBLE = "<!-- live -->"
"""What takes the place of a trouble before: a browser drops an event without data."""
KEPT_PAGES = 64
_rendered: dict[tuple[str, str, str], str] = {}
ANSWER_LINES = 200
"""Lines from the end of a log among which the answers are: the trainer writes few after them."""


@router.get("/training/new/page")
async def show_job_named_new(request: Request, caller: PageCaller) -> Response:
    """The page of the job named ``new``, whose own address is the form's."""
    return await show_job(request, caller, "new")


@router.get("/training/{name}")
async def show_job(request: Request, caller: PageCaller, name: Name) -> Response:
    """The page of one job."""
    job = await find_job(caller.cluster, caller.namespace, name)
    return page(request, "job_page.html", job=details(job, now()), in_namespace=caller.namespace)


@router.get("/training/{name}/live")
async def follow_job(request: Request, caller: PageCaller, name: Name) -> Response:
    """The changing part of the page after each change, as server-sent events; the event ``end`` is the last one."""
    job = await find_job(caller.cluster, caller.namespace, name)
    feed, held = await open_feed(request, caller)
    return Held(held, _job_events(request, feed, job), EVENT_STREAM)


async def _job_events(request: Request, feed: Feed, job: dict[str, Any]) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RETRY_MILLISECONDS)
    yield format_sse_event(event="trouble", data_str=NO_TROUBLE)
    try:
        async for change in job_changes(feed, job):
            if change is None:
                yield KEEPALIVE_COMMENT
            elif change.type == "DELETED":
                yield format_sse_event(
                    event="job", data_str=text(request, "job_gone.html", name=job["metadata"]["name"])
                )
            else:
                version = change.object["metadata"]["resourceVersion"]
                yield format_sse_event(event="job", id=version, data_str=_live(request, change.object))
    except Exception as failed:  # the browser connects again
        html = text(request, "job_trouble.html", problem=problem_of(failed))
        yield format_sse_event(event="trouble", data_str=html)
        return
    yield format_sse_event(event="end", data_str="{}")


def _live(request: Request, job: dict[str, Any]) -> str:
    """The changing part of the page, which is the same for all who follow the job, so that it is rendered once."""
    metadata = job["metadata"]
    key = (metadata["uid"], metadata["resourceVersion"], request.query_params.get("namespace", ""))
    if key not in _rendered:
        while len(_rendered) >= KEPT_PAGES:
            _rendered.pop(next(iter(_rendered)))
        _rendered[key] = text(request, "job_live.html", job=details(job, now()))
    return _rendered[key]


@router.get("/training/{name}/curve")
async def show_curve(caller: PageCaller, name: Name) -> Response:
    """The curves of a job as JSON, which the chart of another job's page draws beside its own."""
    job = await find_job(caller.cluster, caller.namespace, name)
    return JSONResponse(figures.points(job), headers=HEADERS)


@router.get("/training/{name}/others")
async def list_others(request: Request, caller: PageCaller, name: Name) -> Response:
    """The other jobs that have a curve, the newest first, as options."""
    jobs = reversed(await list_jobs(caller.cluster, caller.namespace))
    names = [job["metadata"]["name"] for job in jobs if len((job.get("status") or {}).get("history") or ()) > 1]
    return page(request, "job_others.html", names=[one for one in names if one != name])


@router.get("/training/{name}/answers")
async def show_answers(request: Request, caller: PageCaller, name: Name) -> Response:
    """The rows that the model answered before and after training; with ``HX-Request`` they alone."""
    job = await find_job(caller.cluster, caller.namespace, name)
    try:
        log = await read_log(caller.cluster, job, ANSWER_LINES)
        found = answers(log.lines)
    except NotFound:
        found = []
    path = ((job.get("status") or {}).get("output") or {}).get("path", "")
    template = "job_answers.html" if request.headers.get("hx-request") else "job_answers_page.html"
    return page(request, template, name=name, answers=found, path=path)


@router.get("/training/{name}/model", dependencies=COUNTED)
async def download_model(caller: PageCaller, name: Name) -> Response:
    """The model's folder as a tar file. What keeps it from being read is said before the download begins."""
    job = await find_job(caller.cluster, caller.namespace, name)
    made = (job.get("status") or {}).get("output")
    if not made:
        raise NotFound(f"{name} has no model yet")
    return await archive(caller.storage.archive(made["path"]), name, HEADERS)
