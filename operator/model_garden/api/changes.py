"""``/training/jobs/{id}/stop``, ``cancel``, ``suspend``, ``resume``, which the operator carries out, and ``rerun``."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from model_garden.api.access import Caller, CallerOf
from model_garden.api.body import Json
from model_garden.api.jobs import Id, created_answer
from model_garden.api.openapi import answers, takes
from model_garden.services.actions import Change, change_job
from model_garden.services.job_document import document_of, read_changes
from model_garden.services.submission import create_job, job_to_rerun

router = APIRouter(tags=["changes"])
_CHANGED = answers({202: "TrainingJob"}, 409, 422)


@router.post("/training/jobs/{id}/stop", status_code=202, responses=_CHANGED)
async def stop_training_job(caller: CallerOf, name: Id) -> Response:
    """End training early and save the model; the job succeeds."""
    return await _change(caller, name, "stop")


@router.post("/training/jobs/{id}/cancel", status_code=202, responses=_CHANGED)
async def cancel_training_job(caller: CallerOf, name: Id) -> Response:
    """End the job and mark it Cancelled."""
    return await _change(caller, name, "cancel")


@router.post("/training/jobs/{id}/suspend", status_code=202, responses=_CHANGED)
async def suspend_training_job(caller: CallerOf, name: Id) -> Response:
    """Save a checkpoint and give the GPUs back."""
    return await _change(caller, name, "suspend")


@router.post("/training/jobs/{id}/resume", status_code=202, responses=_CHANGED)
async def resume_training_job(caller: CallerOf, name: Id) -> Response:
    """Resume a suspended job from its last checkpoint."""
    return await _change(caller, name, "resume")


@router.post(
    "/training/jobs/{id}/rerun",
    status_code=201,
    openapi_extra=takes("RerunRequest"),
    responses=answers({201: "TrainingJob"}, 400, 408, 409, 413, 415, 422),
)
async def rerun_training_job(caller: CallerOf, name: Id, body: Json) -> Response:
    """Create a new job from this one, with changes; its output folder is its own."""
    new_name, changes = read_changes(body)
    job = await job_to_rerun(caller.cluster, caller.namespace, name, changes, new_name=new_name)
    created = document_of(await create_job(caller.cluster, job, caller.namespace))
    return created_answer(created, 201)


async def _change(caller: Caller, name: str, change: Change) -> Response:
    job = await change_job(caller.cluster, caller.namespace, name, change)
    return JSONResponse(document_of(job), 202)
