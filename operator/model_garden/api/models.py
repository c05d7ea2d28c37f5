"""``/models``: the models of the workspace."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import JSONResponse, Response

from model_garden.api.access import COUNTED, CallerOf
from model_garden.api.downloads import TAR, archive
from model_garden.api.openapi import STORAGE, answers
from model_garden.services.in_use import refuse_in_use
from model_garden.storage.paths import MAX_PART, model_path

router = APIRouter(tags=["data"])
Name = Annotated[str, Path(alias="name", max_length=MAX_PART, description="Name of the folder in ./models.")]


@router.get("/models", responses=answers({200: "ModelList"}, 422, *STORAGE))
async def list_models(caller: CallerOf) -> Response:
    """The models by name."""
    return JSONResponse({"items": [one.model_dump(mode="json") for one in await caller.storage.models()]})


@router.get(
    "/models/{name}/download",
    dependencies=COUNTED,
    responses=answers({200: ""}, 409, 422, *STORAGE, text=TAR),
)
async def download_model(caller: CallerOf, name: Name) -> Response:
    """A tar archive of the model without its checkpoints; its last member, SHA256SUMS, has the digest of each file."""
    return await archive(caller.storage.archive(model_path(name)), name)


@router.delete("/models/{name}", status_code=204, responses=answers({204: None}, 409, 422, *STORAGE))
async def delete_model(caller: CallerOf, name: Name) -> Response:
    """Delete a model with all its files, unless a job that has not ended uses it."""
    path = model_path(name)
    await refuse_in_use(caller.cluster, caller.namespace, path)
    await caller.storage.remove(path)
    return Response(status_code=204)
