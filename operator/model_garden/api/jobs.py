"""``/training/jobs``: create, list, get, delete."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import Response

from model_garden.api.access import CallerOf, reader_of_all
from model_garden.api.body import Json, JsonAnswer
from model_garden.api.encoded import encoded
from model_garden.api.openapi import PREFIX, answers, takes
from model_garden.contract.status import Phase
from model_garden.services import actions, queries
from model_garden.services.job_document import document_of, read_document
from model_garden.services.listing import Selection, Sort, list_page
from model_garden.services.repeatable import create_once
from model_garden.services.submission import create_job
from model_garden.services.waiting import training_queue

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
AllNamespaces = Annotated[bool, Query(description="Jobs of all namespaces, if the caller may list them.")]
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
        return JsonAnswer(document_of(await create_job(caller.cluster, job, caller.namespace, dry_run=True)))
    named = body.get("name") is not None
    created = await create_once(caller.cluster, job, caller.namespace, named=named, key=key)
    document = document_of(created.job)
    return created_answer(document, 201 if created.new else 200)


def created_answer(document: dict[str, Any], status: int) -> Response:
    """A job with its address in ``Location``."""
    location = f"{PREFIX}/training/jobs/{document['id']}?namespace={document['namespace']}"
    return JsonAnswer(document, status, headers={"Location": location})


@router.get("/training/jobs", responses=answers({200: "TrainingJobList"}, 400, 410, 422))
async def list_training_jobs(
    request: Request,
    caller: CallerOf,
    limit: Annotated[int, Query(ge=1, le=500, description="The most jobs of a page.")] = 100,
    token: Annotated[
        str | None, Query(alias="continue", max_length=4096, description="The continue of the page before.")
    ] = None,
    phase: Annotated[list[Phase] | None, Query(description="Only jobs in one of these phases.")] = None,
    labels: Annotated[
        str | None, Query(alias="label", max_length=4096, description="A label selector, such as team=vision.")
    ] = None,
    sort: Annotated[Sort, Query(description="The field to sort by, descending with -.")] = "name",
    all_namespaces: AllNamespaces = False,
) -> Response:
    """List jobs. Pages that follow from one another show the jobs as they were at the first page."""
    selection = Selection(None if all_namespaces else caller.namespace, labels, tuple(phase or ()), sort, limit, token)
    page = await list_page(caller.cluster, selection, None if all_namespaces else reader_of_all(request, caller))
    items = b",".join(encoded(job) for job in page.jobs)
    more = b',"continue":' + json.dumps(page.token).encode() if page.token else b""
    return Response(b'{"items":[' + items + b"]" + more + b"}", media_type="application/json")


@router.get("/training/queue", responses=answers({200: "TrainingQueue"}, 422))
async def get_training_queue(request: Request, caller: CallerOf, all_namespaces: AllNamespaces = False) -> Response:
    """The jobs that wait, the oldest first, and why."""
    if all_namespaces:
        return JsonAnswer(training_queue(await queries.list_jobs(caller.cluster, None)))
    return JsonAnswer(training_queue(queries.by_age((await reader_of_all(request, caller)()).items)))


@router.get("/training/jobs/{id}", responses=answers({200: "TrainingJob"}, 422))
async def get_training_job(caller: CallerOf, name: Id) -> Response:
    """Get one job."""
    return JsonAnswer(document_of(await queries.find_job(caller.cluster, caller.namespace, name)))


@router.delete("/training/jobs/{id}", status_code=204, responses=answers({204: None}, 422))
async def delete_training_job(caller: CallerOf, name: Id) -> Response:
    """Delete a job and its pods. A model that was already written stays."""
    await actions.delete_job(caller.cluster, caller.namespace, name)
    return Response(status_code=204)
