"""``/datasets``: the data sets of the workspace."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ValidationError

from model_garden.api.access import COUNTED, CallerOf
from model_garden.api.body import Json
from model_garden.api.openapi import STORAGE, answers, takes, takes_files
from model_garden.api.uploads import received_files
from model_garden.contract.methods import Method
from model_garden.services.in_use import jobs_using, refuse_in_use
from model_garden.storage.interface import MAX_PREVIEWED, DatasetQuestion, PreviewRequest, Reading
from model_garden.storage.paths import MAX_PATH, data_path

router = APIRouter(tags=["data"])
Model = TypeVar("Model", bound=BaseModel)

DatasetPath = Annotated[
    str, Query(alias="path", max_length=MAX_PATH, description="A data file or folder, such as ./data/receipts.")
]
Folder = Annotated[str, Query(max_length=MAX_PATH, description="Name of the folder in ./data, such as receipts.")]
KeepInvalid = Annotated[bool, Query(description="Store the data set even if it cannot be trained on.")]


def _reading(
    vision: Annotated[bool | None, Query(description="Default: as the first rows show.")] = None,
    method: Annotated[
        Method | None,
        Query(description="Training method. Default: the rows of each are read, but for those of prompts alone."),
    ] = None,
    column_mapping: Annotated[
        list[str] | None, Query(description="Columns of a job's column_mapping, each as KEY=COLUMN.")
    ] = None,
    fetch_pictures: Annotated[bool, Query(description="Whether images at addresses are accepted.")] = False,
) -> Reading:
    columns = dict(one.partition("=")[::2] for one in column_mapping or ())
    given = {"vision": vision, "method": method, "column_mapping": columns, "fetch_pictures": fetch_pictures}
    return _checked(Reading, given)


def _checked(kind: type[Model], values: Any) -> Model:
    try:
        return kind.model_validate(values)
    except ValidationError as wrong:
        raise RequestValidationError(wrong.errors()) from wrong


AsRead = Annotated[Reading, Depends(_reading)]


@router.get("/datasets", responses=answers({200: "DatasetList"}, 422, *STORAGE))
async def list_datasets(caller: CallerOf) -> Response:
    """The data sets by name."""
    return JSONResponse({"items": [one.model_dump(mode="json") for one in await caller.storage.datasets()]})


@router.post(
    "/datasets",
    status_code=201,
    dependencies=COUNTED,
    openapi_extra=takes_files(),
    responses=answers({201: "UploadReport"}, 400, 408, 409, 413, 415, 422, *STORAGE),
)
async def upload_dataset(
    request: Request, caller: CallerOf, folder: Folder, reading: AsRead, keep_invalid: KeepInvalid = False
) -> Response:
    """Store files in a folder of ``./data``: rows, and the images that they name.

    Each part is a file whose file name is its path in the folder. The data set is checked, then becomes visible at
    once. Files that the folder has already stay, and those with the same content are not written again. A data set
    that cannot be trained on is not stored: 422, and ``errors`` names its files and rows. A file that a job still
    reads is not replaced: 409.
    """
    used_by = await jobs_using(caller.cluster, caller.namespace, data_path(folder))
    async with caller.storage.upload(folder, used_by) as upload, aclosing(received_files(request)) as files:
        async for file in files:
            if await upload.missing([file.digest]):
                await upload.add(file.digest.path, file.digest.size, file.content())
        report = await upload.finish(reading, keep_invalid=keep_invalid)
    return JSONResponse(report.model_dump(mode="json"), 201)


@router.post(
    "/datasets/check",
    dependencies=COUNTED,
    openapi_extra=takes("DatasetQuestion", {"path": "./data/receipts/receipts.jsonl"}),
    responses=answers({200: "DatasetReport"}, 400, 408, 413, 415, 422, *STORAGE),
)
async def check_dataset(caller: CallerOf, body: Json) -> Response:
    """Read every row and every image of a data set."""
    return JSONResponse(await caller.storage.check(_checked(DatasetQuestion, body)))


@router.get("/datasets/preview", dependencies=COUNTED, responses=answers({200: "Preview"}, 422, *STORAGE))
async def preview_dataset(
    caller: CallerOf,
    path: DatasetPath,
    reading: AsRead,
    start: Annotated[int, Query(ge=0, description="Rows to skip.")] = 0,
    count: Annotated[int, Query(ge=1, le=MAX_PREVIEWED, description="Rows to show.")] = 5,
    split: Annotated[str, Query(max_length=100, description="Split of a folder with several.")] = "train",
    train_on: Annotated[Literal["responses", "all"], Query(description="Which text is trained on.")] = "responses",
) -> Response:
    """Rows as they are trained on, with thumbnails of their images. A broken row has its problem."""
    rows = {"path": path, "split": split, "train_on": train_on, "start": start, "count": count}
    wanted = _checked(PreviewRequest, dict(reading) | rows)
    found: dict[str, Any] = (await caller.storage.preview(wanted)).model_dump(mode="json")
    return JSONResponse(found)


@router.delete("/datasets", status_code=204, responses=answers({204: None}, 409, 422, *STORAGE))
async def delete_dataset(caller: CallerOf, path: DatasetPath) -> Response:
    """Delete a data set with all its files, unless a job that has not ended uses it."""
    await refuse_in_use(caller.cluster, caller.namespace, path)
    await caller.storage.remove(path)
    return Response(status_code=204)
