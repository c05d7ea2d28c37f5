"""``/training/jobs/{id}/stop``, ``cancel``, ``suspend``, ``resume``: the operator carries them out."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from model_garden.api.access import Caller, CallerOf
from model_garden.api.jobs import Id
from model_garden.api.openapi import answers
from model_garden.services.actions import Change, change_job
from model_garden.services.job_document import document_of

router = APIRouter(tags=["changes"])
_CHANGED = answers({202: "TrainingJob"}, 404, 409, 422)


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


async def _change(caller: Caller, name: str, change: Change) -> Response:
    job = await change_job(caller.cluster, caller.namespace, name, change)
    return JSONResponse(document_of(job), 202)
