"""``/training/jobs``: create, list, get, delete."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query
from fastapi.responses import JSONResponse, Response

from model_garden.api.access import CallerOf
from model_garden.api.body import Json
from model_garden.api.openapi import PREFIX, answers, takes
from model_garden.services import actions, queries
from model_garden.services.job_document import document_of, read_document
from model_garden.services.repeatable import create_once
from model_garden.services.submission import create_job

router = APIRouter(tags=["jobs"])

Id = Annotated[
    str,
    Path(
        alias="id",
        pattern=r"^([a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?|@latest)$",
        description="Name of the job, or @latest for the newest one.",
    ),
]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Makes the request repeatable also without a name: the same key and body return the same job.",
    ),
]
DryRun = Annotated[bool, Query(description="Check the job as the API server would; create nothing.")]


@router.post(
    "/training/jobs",
    status_code=201,
    openapi_extra=takes("TrainingJobRequest"),
    responses=answers({201: "TrainingJob", 200: "TrainingJob"}, 400, 409, 413, 415, 422),
)
async def create_training_job(caller: CallerOf, body: Json, key: Key = None, dry_run: DryRun = False) -> Response:
    """Create a job. The same name and body again return the job that exists, with 200."""
    job = read_document(body)
    if dry_run:
        return JSONResponse(document_of(await create_job(caller.cluster, job, caller.namespace, dry_run=True)))
    named = body.get("name") is not None
    created = await create_once(caller.cluster, job, caller.namespace, named=named, key=key)
    document = document_of(created.job)
    location = f"{PREFIX}/training/jobs/{document['id']}?namespace={document['namespace']}"
    return JSONResponse(document, 201 if created.new else 200, headers={"Location": location})


@router.get("/training/jobs", responses=answers({200: "TrainingJobList"}, 422))
async def list_training_jobs(caller: CallerOf) -> Response:
    """List the jobs of a namespace."""
    jobs = await queries.list_jobs(caller.cluster, caller.namespace)
    return JSONResponse({"items": [document_of(job) for job in jobs]})


@router.get("/training/jobs/{id}", responses=answers({200: "TrainingJob"}, 404, 422))
async def get_training_job(caller: CallerOf, name: Id) -> Response:
    """Get one job."""
    return JSONResponse(document_of(await queries.find_job(caller.cluster, caller.namespace, name)))


@router.delete("/training/jobs/{id}", status_code=204, responses=answers({204: None}, 404, 422))
async def delete_training_job(caller: CallerOf, name: Id) -> Response:
    """Delete a job and its pods. A model that was already written stays."""
    await actions.delete_job(caller.cluster, caller.namespace, name)
    return Response(status_code=204)
