"""The data of a new job: what is stored, real rows with their images, and the check of every row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from model_garden.api.access import Caller
from model_garden.api.problems import BadRequest
from model_garden.contract.defaults import effective_spec
from model_garden.contract.resource import InvalidResource
from model_garden.services.format import size
from model_garden.services.job_document import read_document
from model_garden.storage.folder import FolderStorage
from model_garden.storage.interface import ColumnKey, DatasetQuestion, PreviewRequest, Reading
from model_garden.web import form
from model_garden.web.pages import PageRoute, page, problem_of
from model_garden.web.security import COUNTED, Form, PageCaller

router = APIRouter(route_class=PageRoute, include_in_schema=False)
ROWS = 3
"""Rows shown at a time."""
LATER = "The preflight checks all rows before a GPU is requested."
ELSEWHERE = f"Rows of data elsewhere are not shown here. {LATER}"
WRONG_PATH = (404, 422)


@router.post("/training/new/datasets")
async def list_datasets(request: Request, caller: PageCaller, values: Form) -> Response:
    """The data sets to choose from."""
    return page(request, "form_datasets.html", stored=await stored(caller), values=values)


@router.post("/training/new/rows", dependencies=COUNTED)
async def show_rows(request: Request, caller: PageCaller, values: Form) -> Response:
    """Some rows of the data set, and a place for the check of all."""
    shown = await preview(caller, values)
    response = page(request, "form_rows.html", values=values, shown=shown, checked=None)
    if shown and not (shown.get("preview") and shown["preview"].rows):  # there is nothing to check
        response.headers["HX-Trigger-After-Settle"] = "checked"
    return response


@router.post("/training/new/check", dependencies=COUNTED)
async def check_rows(request: Request, caller: PageCaller, values: Form) -> Response:
    """What the check of every row found. The run card follows once it is in the page."""
    response = page(request, "form_check.html", values=values, checked=await check(caller, values))
    response.headers["HX-Trigger-After-Settle"] = "checked"
    return response


def is_at_hand(caller: Caller) -> bool:
    """Whether the list costs nothing: it is shown at once then. In a cluster, a pod has to start to read the claim."""
    return isinstance(caller.storage, FolderStorage)


async def stored(caller: Caller) -> dict[str, Any]:
    """The data sets of the caller's storage, or why they cannot be listed."""
    try:
        found = await caller.storage.datasets()
        return {"datasets": [(one, size(one.size)) for one in found], "problem": ""}
    except Exception as failed:
        return {"datasets": [], "problem": problem_of(failed).detail}


async def preview(caller: Caller, values: Mapping[str, str]) -> dict[str, Any] | None:
    """Some rows of the data set that the form names, or why there are none; None while it names no data set."""
    path = form.dataset(values)
    if not path:
        return None
    if form.is_elsewhere(path):
        return {"note": ELSEWHERE}
    start = values.get("start", "")
    try:
        wanted = PreviewRequest(start=int(start) if start.isdecimal() else 0, count=ROWS, **question(values))
        return {"preview": await caller.storage.preview(wanted), "start": wanted.start, "end": wanted.start + ROWS}
    except Exception as failed:
        problem = problem_of(failed)
        return {"problem": problem.detail} if problem.status in WRONG_PATH else {"note": f"{problem.detail}. {LATER}"}


async def check(caller: Caller, values: Mapping[str, str]) -> dict[str, Any] | None:
    """The report on every row of the data set that the form names, or why this server cannot check it."""
    path = form.dataset(values)
    if not path or form.is_elsewhere(path):
        return None
    try:
        return await caller.storage.check(DatasetQuestion(**question(values)))
    except Exception as failed:
        return {"not_checked": problem_of(failed).detail}


def reading(values: Mapping[str, str]) -> Reading:
    """How the job of an uploaded data set would read it; the kind of model is as the first rows show.

    Raises:
        BadRequest: its columns break a rule.
    """
    named = {key: values.get(f"column_mapping.{key}", "").strip() for key in get_args(ColumnKey)}
    columns = {key: column for key, column in named.items() if column}
    try:
        fetches = values.get("fetch_pictures") == "true"
        given = {"method": form.method_of(values), "column_mapping": columns, "fetch_pictures": fetches}
        return Reading.model_validate(given)
    except ValidationError as wrong:
        raise BadRequest(f"column_mapping {wrong.errors()[0]['msg'].removeprefix('Value error, ')}", 422) from wrong


def question(values: Mapping[str, str]) -> dict[str, Any]:
    """How the job would read its data set. Tokens are counted where the base model is a folder of the workspace."""
    read: dict[str, Any] = {
        "path": form.dataset(values),
        "vision": form.is_vision(values),
        "split": values.get("dataset_split") or "train",
        "train_on": "all" if values.get("train_on") == "all" else "responses",
        "method": form.method_of(values) or "sft",
        "fetch_pictures": form.is_vision(values) and values.get("fetch_pictures") == "true",
    }
    try:
        job = read_document({"dataset_path": "./data/rows.jsonl", **form.document(values)})
    except InvalidResource:
        return read
    spec = effective_spec(job.spec, job.name)
    (least, most), model = spec.pixel_bounds, spec.base_model
    known = {"base_model": model, "max_seq_length": spec.hyperparameters.max_seq_length}
    return (
        read
        | {"column_mapping": spec.columns, "chat_template": spec.chat_template, "min_pixels": least, "max_pixels": most}
        | (known if model.startswith("./models/") else {})
    )
