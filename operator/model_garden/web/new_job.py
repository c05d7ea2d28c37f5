"""``/training/new``: the form of a new job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from model_garden.api.access import Caller
from model_garden.contract.defaults import effective_spec
from model_garden.contract.resource import InvalidResource
from model_garden.estimate.steps import rows_per_step
from model_garden.services.errors import Conflict, Unavailable
from model_garden.services.format import size
from model_garden.services.job_document import read_document
from model_garden.services.manifest import Job
from model_garden.services.planning import Question, all_nodes, estimate_job, planned_steps
from model_garden.services.queries import find_job, list_jobs
from model_garden.services.repeatable import Created, create_once
from model_garden.services.savings import fields_of
from model_garden.services.spellings import as_command, as_curl, as_python, as_yaml
from model_garden.services.submission import next_name
from model_garden.storage.interface import ColumnKey
from model_garden.web import catalog, examples, form, form_data
from model_garden.web.examples import UseCase, use_case
from model_garden.web.form_file import from_file
from model_garden.web.pages import PageRoute, job_path, page, problem_of
from model_garden.web.security import COUNTED, Form, PageCaller, page_caller

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
    values, chosen = _with_use_case(values)
    unknown = [f"The link gives {key}, which is no field of the form." for key in values if key not in form.NAMES]
    return _form_page(request, caller, values, notices=unknown, use_case=chosen)


@router.post("/training/new/fill")
async def fill_form(request: Request, caller: PageCaller, given: Form) -> Response:
    """The form, filled from a TrainingJob in YAML or JSON; or what is wrong with it, by field and line."""
    text = given.get("document", "")
    try:
        filled, notices = from_file(text, caller.namespace)
    except InvalidResource as wrong:
        return _form_page(request, caller, dict(FIRST), status=422, file_text=text, file_problems=wrong.problems)
    return _form_page(request, caller, filled, notices=notices)


@router.post("/training/new")
async def submit_form(request: Request, caller: PageCaller, values: Form) -> Response:
    """Create the job and show its page, or the form with what is wrong at its fields."""
    action = values.pop("action", "start")
    if "choose" in values:
        values["dataset_path"], action = values.pop("choose"), "rows"
    if "columns" in values:  # each as KEY=COLUMN, a line each
        pairs = (line.partition("=")[::2] for line in values.pop("columns").splitlines())
        values, action = values | {f"column_mapping.{key}": column for key, column in pairs}, "rows"
    if "use_case" in values or "undo" in values or action != "start":
        values, chosen = _with_use_case(form.without(values, action))
        shown = await _without_script(caller, values, action)
        return _form_page(request, caller, values, use_case=chosen, shown=shown)
    if broken := await _broken(caller, values):
        wrong = {"dataset_path": ["Some rows cannot be trained on; they are listed below. Fix them, then start again."]}
        return _form_page(request, caller, values, wrong, status=422, shown=broken)
    try:
        created = await _create(caller, form.document(values))
    except Exception as failed:
        problem = problem_of(failed)
        problems: dict[str, list[str]] = {}
        for error in problem.errors or ():
            problems.setdefault(_field_of(error.field), []).append(error.message)
        if not problems or problem.status != 422:
            problems.setdefault("", []).append(problem.detail)
        return _form_page(request, caller, values, problems, status=problem.status)
    name = created.job["metadata"]["name"]
    query = f"?namespace={caller.namespace}" if "namespace" in request.query_params else ""
    return RedirectResponse(f"{job_path(name)}{query}", 303)


async def _without_script(caller: Caller, values: Mapping[str, str], action: str) -> dict[str, Any]:
    """What a page without JavaScript asks for: the list of data sets, or rows and their check."""
    if action == "browse":
        return {"stored": await form_data.stored(caller)}
    if action == "rows" or "start" in values:
        return {"shown": await form_data.preview(caller, values), "checked": await form_data.check(caller, values)}
    return {}


async def _broken(caller: Caller, values: Mapping[str, str]) -> dict[str, Any] | None:
    """Rows and their check, where the page said that rows are broken and they still are; else None."""
    if values.get("checked_path") != form.dataset(values) or values.get("checked_problems", "0") == "0":
        return None
    checked = await form_data.check(caller, values)
    return (
        {"shown": await form_data.preview(caller, values), "checked": checked}
        if checked and not checked["ok"]
        else None
    )


def show_upload_problems(request: Request, caller: Caller, problems: Sequence[str], status: int) -> Response:
    """The form with what is wrong with uploaded files."""
    values = {**FIRST, "source": "upload"}
    return _form_page(request, caller, values, status=status, shown={"upload_problems": problems})


def _with_use_case(values: Mapping[str, str]) -> tuple[dict[str, str], UseCase | None]:
    """The values with the settings of the use case that they name, and that use case."""
    rest = dict(values)
    chosen = use_case(rest.pop("use_case", ""))
    return rest | dict(chosen.settings if chosen else {}), chosen


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


@router.post("/training/new/estimate", dependencies=COUNTED)
async def estimate_form(request: Request, caller: PageCaller, values: Form) -> Response:
    """The memory that the job needs, for the form as it stands."""
    found, problem = None, ""
    if form.base_model(values):
        try:
            job = read_document({"dataset_path": "./data/rows.jsonl", **form.document(values)})
            found = await estimate_job(Question(job, None, None), await all_nodes(caller.cluster))
        except (InvalidResource, Unavailable):
            problem = "The preflight estimates the memory of this job once it is created."
    return page(request, "estimate.html", found=found, problem=problem, size=size, saves=_saves(found, values))


def _saves(found: Mapping[str, Any] | None, values: Mapping[str, str]) -> list[tuple[str, float]]:
    """What saves memory, by the labels of the form, and the memory that is needed then; of several, the last is all."""
    labels = {one.name: one.label for one in form.form_fields(values)}
    listed = [] if found is None else found["savings"]
    saves = []
    for one in listed:
        changes = ", ".join(f"{labels.get(path, path)} {value}" for path, value in fields_of(one["spec"]))
        all_of_them = len(listed) > 1 and one is listed[-1]
        saves.append(("All of these" if all_of_them else changes, one["total_gib"]))
    return saves


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
    """What the job would be with every default applied, what is missing, and what to do next.

    ``job`` is None while the form is not complete; ``spec`` is then that of the same job with other data.
    """
    path = form.dataset(values)
    missing = [
        words
        for words, given in (("Choose a base model", form.base_model(values).strip()), ("Choose a data set", path))
        if not given
    ]
    checked = values.get("checked_path") == path
    card: dict[str, Any] = {
        "missing": missing,
        "checking": bool(path) and not checked,
        "broken": int(values.get("checked_problems", "0")) if checked else 0,
        "rows": int(values.get("checked_rows", "0")) if checked else 0,
        "problems": [],
        "job": None,
        "spec": None,
    }
    if "Choose a base model" in missing:
        return card
    try:
        job = read_document({"dataset_path": "./data/rows.jsonl", **form.document(values)})
    except InvalidResource as wrong:
        return card | {"problems": wrong.problems}
    spec = effective_spec(job.spec, job.name)
    steps = planned_steps(spec, card["rows"]) if card["rows"] or spec.hyperparameters.max_steps > 0 else None
    return card | {"job": None if missing else job, "spec": spec, "step": rows_per_step(spec), "steps": steps}


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
        "labels": {one.name: one.label for one in fields},
        "standard": {name.rpartition(".")[2]: by_name[name].default for name in form.SIMPLE},
        "changed": sum(one.is_changed for one in fields),
    }


def _form_page(
    request: Request,
    caller: Caller,
    values: Mapping[str, str],
    problems: Mapping[str, list[str]] | None = None,
    *,
    status: int = 200,
    notices: Sequence[str] = (),
    use_case: UseCase | None = None,
    shown: Mapping[str, Any] | None = None,
    file_text: str = "",
    file_problems: Sequence[str] = (),
) -> Response:
    vision, problems = form.is_vision(values), problems or {}
    values = {**values, "base_model": catalog.chosen(form.base_model(values), values, vision=vision)}
    run = run_card(values)
    return page(
        request,
        "new_job.html",
        status,
        **_shared(values, problems),
        run=run,
        spellings=spellings(request, run["job"]),
        families=catalog.suggestions(vision=vision),
        listed=catalog.is_listed(values["base_model"], vision=vision),
        formats=examples.formats(vision=vision, method=form.method_of(values) or "sft"),
        use_cases=examples.USE_CASES,
        use_case=use_case,
        problems=problems,
        top_problems=[line for name, lines in problems.items() if name not in form.NAMES for line in lines],
        notices=notices,
        file_text=file_text,
        file_problems=file_problems,
        in_namespace=caller.namespace,
        source=form.source(values),
        column_keys=get_args(ColumnKey),
        at_hand=form_data.is_at_hand(caller),
        **{"stored": None, "shown": None, "checked": None, "upload_problems": (), **(shown or {})},
    )
