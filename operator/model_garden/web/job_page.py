"""``/training/{name}``: one job, live; what may be asked of it; its log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from model_garden.services.actions import Change, change_job, delete_job
from model_garden.services.errors import NotFound
from model_garden.services.job_view import has_ended
from model_garden.services.logs import read_log
from model_garden.services.queries import find_job, watch_job
from model_garden.services.repeatable import create_once
from model_garden.services.submission import job_to_rerun
from model_garden.web import views
from model_garden.web.pages import PageRoute, page, problem_of, text
from model_garden.web.security import HEADERS, SENT_BY_A_PAGE, PageCaller

Item = TypeVar("Item")

router = APIRouter(route_class=PageRoute, include_in_schema=False)
Name = Annotated[str, Path(pattern=r"^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$")]
LOG_LINES = 500
HEARTBEAT_SECONDS = 15.0
RETRY_MILLISECONDS = 2000


@router.get("/training/{name}")
async def show_job(request: Request, caller: PageCaller, name: Name) -> Response:
    """The page of one job."""
    job = await find_job(caller.cluster, caller.namespace, name)
    return page(request, "job_page.html", job=views.details(job, views.now()), in_namespace=caller.namespace)


@router.get("/training/{name}/live")
async def follow_job(request: Request, caller: PageCaller, name: Name) -> Response:
    """The changing part of the page after each change, as server-sent events; the event ``end`` is the last one."""
    job = await find_job(caller.cluster, caller.namespace, name)

    async def events() -> AsyncIterator[str]:
        yield f"retry: {RETRY_MILLISECONDS}\n\n"
        try:
            async with aclosing(_with_heartbeat(watch_job(caller.cluster, job))) as states:
                async for state in states:
                    if state is None:
                        yield ": heartbeat\n\n"
                        continue
                    html = text(request, "job_live.html", job=views.details(state, views.now()))
                    yield event("job", html, state["metadata"]["resourceVersion"])
        except NotFound:
            yield event("job", text(request, "job_gone.html", name=name))
        except Exception as failed:  # the browser connects again
            yield event("trouble", text(request, "job_trouble.html", problem=problem_of(failed)))
            return
        yield event("end", "")

    headers = {**HEADERS, "X-Accel-Buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


def event(name: str, data: str, event_id: str | None = None) -> str:
    """One server-sent event. Format: https://html.spec.whatwg.org/multipage/server-sent-events.html"""
    lines = [f"event: {name}", *([f"id: {event_id}"] if event_id else [])]
    return "\n".join([*lines, *(f"data: {line}" for line in data.splitlines() or [""])]) + "\n\n"


async def _with_heartbeat(items: AsyncIterator[Item]) -> AsyncGenerator[Item | None]:
    """``items``, and None whenever none came for a while."""
    following = asyncio.ensure_future(anext(items))
    try:
        while True:
            done, _ = await asyncio.wait([following], timeout=HEARTBEAT_SECONDS)
            if not done:
                yield None
                continue
            try:
                yield following.result()
            except StopAsyncIteration:
                return
            following = asyncio.ensure_future(anext(items))
    finally:
        following.cancel()


@router.get("/training/{name}/logs")
async def show_logs(request: Request, caller: PageCaller, name: Name, search: str = "") -> Response:
    """The last lines of the job's log; with ``HX-Request`` they alone."""
    job = await find_job(caller.cluster, caller.namespace, name)
    try:
        log = await read_log(caller.cluster, job, LOG_LINES)
        lines, note = log.lines, "These are the last lines that the status kept." if log.from_status else ""
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
