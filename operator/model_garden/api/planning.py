"""Before a job exists: ``/defaults``, ``/estimate``, ``/render``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from model_garden.api.access import COUNTED, CallerOf
from model_garden.api.body import Json
from model_garden.api.openapi import answers, takes
from model_garden.contract.defaults import defaults
from model_garden.contract.fields import snake_case
from model_garden.contract.spec import TrainingJobSpec
from model_garden.services.errors import Unavailable
from model_garden.services.job_document import read_document
from model_garden.services.planning import all_nodes, estimate_job, read_question
from model_garden.services.spellings import as_command, as_curl, as_python, as_yaml

router = APIRouter(tags=["planning"])


@router.get("/defaults", responses=answers({200: "Defaults"}, 422))
async def get_defaults(
    vision: Annotated[bool, Query(description="Whether the job trains a vision-language model.")] = False,
    base_model: Annotated[
        str, Query(max_length=1024, description="Name of the model; large ones have other defaults.")
    ] = "",
    gpus: Annotated[int, Query(ge=0, le=1024, description="GPUs a pod trains on; 0 chooses the CPU's values.")] = 1,
) -> Response:
    """The defaults that the operator applies."""
    return JSONResponse(snake_case(defaults(vision=vision, base_model=base_model, gpus=gpus), TrainingJobSpec))


@router.post(
    "/estimate",
    dependencies=COUNTED,
    openapi_extra=takes("EstimateRequest"),
    responses=answers({200: "EstimateResponse"}, 400, 408, 413, 415, 422, 424),
)
async def estimate_training_job(caller: CallerOf, body: Json) -> Response:
    """The memory that a job needs, part by part, the nodes that have it, what saves memory, and the disk space."""
    question = read_question(body)
    nodes = await all_nodes(caller.cluster)  # first: the API server checks who asks
    try:
        return JSONResponse(await estimate_job(question, nodes))
    except Unavailable as unknown:
        raise Unavailable(f"{unknown}; send it as base_model_config") from unknown


@router.post(
    "/render",
    openapi_extra=takes("TrainingJobRequest"),
    responses=answers({200: "Rendered"}, 400, 408, 413, 415, 422),
)
async def render_training_job(request: Request, body: Json) -> Response:
    """The same job as YAML, as curl, as a command and as Python. Nothing is created."""
    job = read_document(body)
    address = str(request.base_url).rstrip("/")
    return JSONResponse(
        {
            "yaml": as_yaml(job),
            "curl": as_curl(job, address),
            "command": as_command(job),
            "python": as_python(job, address),
        }
    )
