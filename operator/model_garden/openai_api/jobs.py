"""``/v1/fine_tuning/jobs``: create, list, get, cancel, pause, resume, events, checkpoints."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, Response

from model_garden.api.access import Caller
from model_garden.api.body import Json
from model_garden.openai_api import events
from model_garden.openai_api.access import CallerOf
from model_garden.openai_api.creation import create
from model_garden.openai_api.documents import job_document, job_id, job_name, listing, page
from model_garden.openai_api.mapping import metadata_of
from model_garden.openai_api.request import read_request
from model_garden.services.actions import Change, change_job
from model_garden.services.queries import find_job, list_jobs

router = APIRouter(prefix="/fine_tuning/jobs")

After = Annotated[str | None, Query(max_length=512)]
Limit = Annotated[int, Query(ge=1, le=100)]


@router.post("")
async def create_job(
    caller: CallerOf,
    body: Json,
    key: Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)] = None,
    retries: Annotated[int, Header(alias="X-Stainless-Retry-Count", ge=0)] = 0,
) -> Response:
    """Create a job. A request that the client sends again returns the job of the first."""
    return _shown(await create(caller, read_request(body), key=key, retried=retries > 0))


@router.get("")
async def list_fine_tuning_jobs(request: Request, caller: CallerOf, after: After = None, limit: Limit = 20) -> Response:
    """The TrainingJobs of the namespace, the latest first."""
    wanted = metadata_filter(dict(request.query_params))
    jobs = await list_jobs(caller.cluster, caller.namespace)
    found = [job for job in reversed(jobs) if wanted.items() <= metadata_of(job).items()]
    places = page([job_id(job["metadata"]["name"]) for job in found], after, limit)
    return JSONResponse(listing([job_document(found[place]) for place in places], has_more=places.stop < len(found)))


@router.get("/{identifier}")
async def get_job(caller: CallerOf, identifier: str) -> Response:
    """Get one job."""
    return _shown(await _find(caller, identifier))


@router.post("/{identifier}/cancel")
async def cancel_job(caller: CallerOf, identifier: str) -> Response:
    """End the job."""
    return await _change(caller, identifier, "cancel")


@router.post("/{identifier}/pause")
async def pause_job(caller: CallerOf, identifier: str) -> Response:
    """Save a checkpoint and give the GPUs back."""
    return await _change(caller, identifier, "suspend")


@router.post("/{identifier}/resume")
async def resume_job(caller: CallerOf, identifier: str) -> Response:
    """Resume from the last checkpoint."""
    return await _change(caller, identifier, "resume")


@router.get("/{identifier}/events")
async def list_events(caller: CallerOf, identifier: str, after: After = None, limit: Limit = 20) -> Response:
    """What happened to the job, the latest first."""
    return _paged(events.events(await _find(caller, identifier)), after, limit)


@router.get("/{identifier}/checkpoints")
async def list_checkpoints(caller: CallerOf, identifier: str, after: After = None, limit: Limit = 10) -> Response:
    """The checkpoints of the job, the latest first."""
    return _paged(events.checkpoints(await _find(caller, identifier)), after, limit)


def metadata_filter(query: dict[str, str]) -> dict[str, str]:
    """The metadata that a list asks for.

    >>> metadata_filter({"limit": "5", "metadata[team]": "vision"})
    {'team': 'vision'}
    """
    start, end = "metadata[", "]"
    return {
        key[len(start) : -len(end)]: value
        for key, value in query.items()
        if key.startswith(start) and key.endswith(end)
    }


def _paged(items: list[dict[str, Any]], after: str | None, limit: int) -> Response:
    places = page([item["id"] for item in items], after, limit)
    return JSONResponse(listing([items[place] for place in places], has_more=places.stop < len(items)))


async def _find(caller: Caller, identifier: str) -> dict[str, Any]:
    return await find_job(caller.cluster, caller.namespace, job_name(identifier))


async def _change(caller: Caller, identifier: str, change: Change) -> Response:
    return _shown(await change_job(caller.cluster, caller.namespace, job_name(identifier), change))


def _shown(job: dict[str, Any]) -> Response:
    return JSONResponse(job_document(job))
