"""``/training``: the jobs of a namespace."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Annotated, get_args

from fastapi import APIRouter, Query, Request
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.responses import Response

from model_garden.api.access import reader_of_all
from model_garden.api.live import RETRY_MILLISECONDS, Held, open_feed
from model_garden.contract.status import Phase
from model_garden.services.feed import Feed
from model_garden.services.job_view import phase as phase_of
from model_garden.services.queries import by_age
from model_garden.web.pages import PageRoute, page
from model_garden.web.security import PageCaller
from model_garden.web.views import rows as views

router = APIRouter(route_class=PageRoute, include_in_schema=False)
ROWS = 100
Most = Annotated[int, Query(ge=1, le=10_000)]
SECONDS_BETWEEN_EVENTS = 1.0
EVENT_STREAM = "text/event-stream"


@router.get("/training")
async def show_jobs(
    request: Request, caller: PageCaller, search: str = "", phase: str = "", most: Most = ROWS
) -> Response:
    """The newest jobs first; the same address with ``HX-Request`` answers the table alone."""
    jobs = list(reversed(by_age((await reader_of_all(request, caller)()).items)))
    searched = [job for job in jobs if views.matches(job, search.strip())]
    found = [job for job in searched if phase in ("", phase_of(job))]
    counts = Counter(phase_of(job) for job in searched)
    now = views.now()
    template = "job_rows.html" if request.headers.get("hx-request") else "job_list.html"
    return page(
        request,
        template,
        rows=[views.row(job, now) for job in found[:most]],
        found=len(found),
        total=len(jobs),
        most=most,
        more=most + ROWS,
        search=search,
        phase=phase,
        phases=[(one, counts[one]) for one in get_args(Phase)],
        in_namespace=caller.namespace,
    )


@router.get("/live/training")
async def follow_jobs(request: Request, caller: PageCaller) -> Response:
    """The event ``jobs`` when a job of the namespace has changed, at most once a second."""
    feed, held = await open_feed(request, caller)
    return Held(held, _changes(feed), EVENT_STREAM)


async def _changes(feed: Feed) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RETRY_MILLISECONDS)
    sent = time.monotonic()
    async for seen in feed.follow():
        if seen is None:
            yield KEEPALIVE_COMMENT
            continue
        if (rest := sent + SECONDS_BETWEEN_EVENTS - time.monotonic()) > 0:
            await asyncio.sleep(rest)
        sent = time.monotonic()
        yield format_sse_event(event="jobs", data_str="{}")
