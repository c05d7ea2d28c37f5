"""``/v1/models``: what jobs of the namespace have trained."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from model_garden.api.access import Caller
from model_garden.openai_api.access import CallerOf
from model_garden.openai_api.documents import seconds
from model_garden.services.errors import NotFound
from model_garden.services.job_view import phase
from model_garden.services.queries import list_jobs

router = APIRouter(prefix="/models")


@router.get("")
async def list_models(caller: CallerOf) -> Response:
    """The models, the latest first."""
    return JSONResponse({"object": "list", "data": await _models(caller)})


@router.get("/{identifier:path}")
async def get_model(caller: CallerOf, identifier: str) -> Response:
    """One model."""
    for model in await _models(caller):
        if model["id"] == identifier:
            return JSONResponse(model)
    raise NotFound(f"no job of namespace {caller.namespace} has trained the model {identifier!r}")


async def _models(caller: Caller) -> list[dict[str, Any]]:
    jobs = reversed(await list_jobs(caller.cluster, caller.namespace))
    return [_document(job) for job in jobs if phase(job) == "Succeeded"]


def _document(job: dict[str, Any]) -> dict[str, Any]:
    metadata, status = job["metadata"], job["status"]
    return {
        "id": status["output"]["path"],
        "object": "model",
        "created": seconds(status.get("completionTime")),
        "owned_by": metadata["namespace"],
    }
