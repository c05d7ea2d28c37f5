"""What is followed while it happens: ``/training/jobs/{id}/events`` and ``/training/jobs/{id}/logs``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.types import Receive, Scope, Send

from model_garden.api.access import Caller, CallerOf, limits_of
from model_garden.api.encoded import encoded
from model_garden.api.jobs import Id
from model_garden.api.openapi import answers
from model_garden.api.problems import response_to
from model_garden.cluster import Change, ClusterError, Object
from model_garden.services.errors import NotFound
from model_garden.services.feed import Feed, Feeds, job_changes, job_states
from model_garden.services.job_view import has_ended
from model_garden.services.logs import follow_job_log, read_log
from model_garden.services.queries import find_job
from model_garden.services.trainer_log import log_line

router = APIRouter(tags=["live"])

RETRY_MILLISECONDS = 3000
TEXT = "text/plain; charset=utf-8"
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # for proxies that would collect a stream


@router.get("/training/jobs/{id}/events", responses=answers({200: "", 204: None}, 422, text="text/event-stream"))
async def stream_training_job_events(
    request: Request,
    caller: CallerOf,
    name: Id,
    last_event_id: Annotated[str | None, Header(description="The last id that was read; later events follow.")] = None,
) -> Response:
    """Stream the job as server-sent events: `job` after each change, `deleted`, and `end` when it has ended.

    A stream that is resumed after `end` is answered with 204, at which an EventSource stops.
    """
    job = await find_job(caller.cluster, caller.namespace, name)
    if has_ended(job) and job["metadata"]["resourceVersion"] == last_event_id:
        return Response(status_code=204)
    feed, held = await open_feed(request, caller)
    return Held(held, _events(feed, job, last_event_id), "text/event-stream")


class Held(StreamingResponse):
    """A streamed answer that holds what it reads from until it has ended, however it ends."""

    def __init__(self, held: AsyncExitStack, content: AsyncIterator[bytes | str], media_type: str) -> None:
        super().__init__(content, media_type=media_type, headers=_HEADERS)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        async with self._held:
            await super().__call__(scope, receive, send)


async def open_feed(request: Request, caller: Caller) -> tuple[Feed, AsyncExitStack]:
    """The caller's feed, opened before the answer begins so that a refusal still has its status."""
    feeds: Feeds = request.app.state.feeds
    held = AsyncExitStack()
    held.enter_context(limits_of(request).streams.entered(caller.identity))
    feed = await held.enter_async_context(feeds.open(caller.cluster, caller.namespace, caller.identity))
    return feed, held


async def _events(feed: Feed, job: Object, after: str | None) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RETRY_MILLISECONDS)
    try:
        async for change in job_changes(feed, job, after):
            yield KEEPALIVE_COMMENT if change is None else _event(change)
    except ClusterError as refused:
        yield format_sse_event(event="error", data_str=bytes(response_to(refused).body).decode())
        return
    yield format_sse_event(event="end", data_str="{}")


def _event(change: Change) -> bytes:
    return format_sse_event(
        event="deleted" if change.type == "DELETED" else "job",
        id=change.object["metadata"]["resourceVersion"],
        data_str=encoded(change.object).decode(),
    )


@router.get("/training/jobs/{id}/logs", responses=answers({200: ""}, 422, text="text/plain"))
async def get_training_job_logs(
    request: Request,
    caller: CallerOf,
    name: Id,
    follow: Annotated[bool, Query(description="Go on until the job has ended, across all its pods.")] = False,
    tail: Annotated[int | None, Query(ge=0, description="The last lines only; not with follow.")] = None,
    raw: Annotated[bool, Query(description="With the JSON events that the trainer writes.")] = False,
) -> Response:
    """The trainer's log as text."""
    job = await find_job(caller.cluster, caller.namespace, name)
    if follow and not has_ended(job):
        feed, held = await open_feed(request, caller)
        return Held(held, _lines(caller, feed, job, raw), TEXT)
    log = await read_log(caller.cluster, job, tail)
    return Response("".join(_shown(line, raw) for line in log.lines), media_type=TEXT)


async def _lines(caller: Caller, feed: Feed, job: Object, raw: bool) -> AsyncIterator[str]:
    try:
        async for item in follow_job_log(caller.cluster, job_states(feed, job)):
            if isinstance(item, str) and (shown := _shown(item, raw)):
                yield shown
    except (ClusterError, NotFound) as ended:  # the answer has begun: its status can no longer say it
        yield f"the log ends here: {ended}\n"


def _shown(line: str, raw: bool) -> str:
    shown = line if raw else log_line(line)
    return "" if shown is None else f"{shown}\n"
