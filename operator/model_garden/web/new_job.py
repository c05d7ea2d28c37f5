"""``/training/new``: the form of a new job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from model_garden.api.access import Caller
from model_garden.contract.defaults import effective_spec
from model_garden.contract.resource import InvalidResource
from model_garden.services.errors import Conflict, Unavailable
from model_garden.services.job_document import read_document
from model_garden.services.manifest import Job
from model_garden.services.planning import Question, estimate_memory
from model_garden.services.queries import find_job, list_jobs
from model_garden.services.repeatable import Created, create_once
from model_garden.services.spellings import as_command, as_curl, as_python, as_yaml
from model_garden.services.submission import next_name
from model_garden.web import catalog, examples, form
from model_garden.web.pages import PageRoute, page, problem_of
from model_garden.web.security import Form, PageCaller, page_caller

router = APIRouter(route_class=PageRoute, include_in_schema=False)
FIRST = {"model_type": "vision"}
"""What an empty form is about."""


@router.get("/training/new")
async def show_form(request: Request, caller: PageCaller, rerun: str = "") -> Response:
    """The form, filled from the query: ``?rerun=NAME``, or the fields by their names in the REST API."""
    values: dict[str, str] = dict(FIRST)
    if rerun:
        old = await find_job(caller.cluster, caller.namespace, rerun)
        values = form.values_of({key: value for key, value in old["spec"].items() if key != "outputDir"})
    values |= {key: value for key, value in request.query_params.items() if key not in ("rerun", "namespace")}
    return _form_page(request, caller, values, {})


@router.post("/training/new")
async def submit_form(request: Request, caller: PageCaller, values: Form) -> Response:
    """Create the job and show its page, or the form with what is wrong at its fields."""
    if values.pop("action", "") == "update":
        return _form_page(request, caller, values, {})
    try:
        created = await _create(caller, form.document(values))
    except Exception as failed:
        problem = problem_of(failed)
        problems: dict[str, list[str]] = {}
        for error in problem.errors or ():
            problems.setdefault(_field_of(error.field), []).append(error.message)
        if not problems or problem.status != 422:
            problems.setdefault("", []).append(problem.detail)
        return _form_page(request, caller, values, problems, problem.status)
    name = created.job["metadata"]["name"]
    query = f"?namespace={caller.namespace}" if "namespace" in request.query_params else ""
    return RedirectResponse(f"/training/{name}{query}", 303)


async def _create(caller: Caller, document: dict[str, Any]) -> Created:
    """The job of a form; one without a name gets a free one. The same form again finds the same job."""
    job = read_document(document)
    try:
        return await create_once(caller.cluster, job, caller.namespace, named=True)
    except Conflict:
        if "name" in document:
            raise
        taken = [one["metadata"]["name"] for one in await list_jobs(caller.cluster, caller.namespace)]
        job.name = next_name(job.name, taken)
        return await create_once(caller.cluster, job, caller.namespace, named=True)


@router.post("/training/new/preview", dependencies=[Depends(page_caller)])
async def preview_form(request: Request, values: Form) -> Response:
    """What the job would be, for the form as it stands."""
    run = run_card(values)
    return page(request, "preview.html", run=run, spellings=spellings(request, run["job"]), **_shared(values, {}))


@router.post("/training/new/estimate")
async def estimate_form(request: Request, caller: PageCaller, values: Form) -> Response:
    """The memory that the job needs, for the form as it stands."""
    found, problem = None, ""
    if form.base_model(values):
        try:
            document = {"dataset_path": "./data/rows.jsonl", **form.document(values)}
            found = await estimate_memory(caller.cluster, Question(read_document(document), None, None))
        except (InvalidResource, Unavailable):
            problem = "The preflight estimates the memory of this job once it is created."
    return page(request, "estimate.html", found=found, problem=problem)


def spellings(request: Request, job: Job | None) -> list[tuple[str, str, str]]:
    """The job in each front door's words: an id, a title and the text, which is empty without a job."""
    address = str(request.base_url).rstrip("/")
    return [
        ("yaml", "YAML", as_yaml(job) if job else ""),
        ("curl", "curl", as_curl(job, address) if job else ""),
        ("command", "Command line", as_command(job) if job else ""),
        ("python", "Python", as_python(job, address) if job else ""),
    ]


def _field_of(path: str) -> str:
    """The input that shows a field; problems of a field without one are shown at the top."""
    if path.startswith("resources"):
        return "gpus"
    if path.startswith(("pod_template", form.YAML_FIELD)):
        return form.YAML_FIELD
    return path


def run_card(values: Mapping[str, str]) -> dict[str, Any]:
    """What the job would be with every default applied, or what is missing."""
    missing = [
        words
        for words, given in (("a base model", form.base_model(values)), ("a data set", values.get("dataset_path")))
        if not (given or "").strip()
    ]
    if missing:
        return {"missing": missing, "problems": [], "job": None}
    try:
        job = read_document(form.document(values))
    except InvalidResource as wrong:
        return {"missing": [], "problems": wrong.problems, "job": None}
    return {"missing": [], "problems": [], "job": job, "spec": effective_spec(job.spec, job.name)}


def _shared(values: Mapping[str, str], problems: Mapping[str, list[str]]) -> dict[str, Any]:
    fields = form.form_fields(values, problems)
    by_name = {one.name: one for one in fields}
    rest = [one for one in fields if one.name not in form.SIMPLE]
    groups: dict[str, list[form.FormField]] = {}
    for one in rest:
        groups.setdefault(one.group, []).append(one)
    return {
        "vision": form.is_vision(values),
        "values": values,
        "simple": [by_name[name] for name in form.SIMPLE],
        "groups": groups,
        "changed": sum(bool(one.value) for one in fields),
        "advanced_open": any(one.value or one.problems for one in rest) or bool(values.get(form.YAML_FIELD)),
    }


def _form_page(
    request: Request, caller: Caller, values: Mapping[str, str], problems: Mapping[str, list[str]], status: int = 200
) -> Response:
    shared = _shared(values, problems)
    own = {"", "name", "dataset_path", "base_model", "model_type", form.YAML_FIELD}
    known = own | {one.name for group in shared["groups"].values() for one in group} | set(form.SIMPLE)
    vision = shared["vision"]
    chosen = form.base_model(values)
    if not chosen and "other_model" not in values:
        chosen = next(iter(catalog.suggestions(vision=vision).values()))[0].id
    elif (
        values.get("base_model")
        and not catalog.is_listed(chosen, vision=vision)
        and catalog.is_listed(chosen, vision=not vision)
    ):  # the type was changed, and with it the list
        chosen = next(iter(catalog.suggestions(vision=vision).values()))[0].id
    values = {**values, "base_model": chosen}
    run = run_card(values)
    return page(
        request,
        "new_job.html",
        status,
        **{**shared, "values": values},
        run=run,
        spellings=spellings(request, run["job"]),
        families=catalog.suggestions(vision=vision),
        listed=catalog.is_listed(chosen, vision=vision),
        formats=examples.formats(vision=vision),
        use_cases=examples.USE_CASES,
        problems=problems,
        top_problems=[line for name, lines in problems.items() if name not in known or not name for line in lines],
        in_namespace=caller.namespace,
    )
