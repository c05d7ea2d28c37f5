"""What may be asked of a job from its page: to stop, suspend, resume, delete, and to run again."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from model_garden.contract.resource import InvalidResource
from model_garden.services.actions import Change, change_job, delete_job
from model_garden.services.job_view import has_ended
from model_garden.services.queries import find_job, list_jobs
from model_garden.services.repeatable import create_once
from model_garden.services.sweep import Variant, settings, variants
from model_garden.web.job_page import Name
from model_garden.web.pages import PageRoute, address, job_path, page
from model_garden.web.security import SENT_BY_A_PAGE, Form, PageCaller
from model_garden.web.views.job import stop_choices

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/training/{name}/stop")
async def ask_how_to_stop(request: Request, caller: PageCaller, name: Name) -> Response:
    """The ways to end a job, each with what will exist afterwards."""
    job = await find_job(caller.cluster, caller.namespace, name)
    choices = [] if has_ended(job) else stop_choices(job)
    return _question(request, "stop", name, choices=choices)


@router.get("/training/{name}/delete")
async def ask_to_delete(request: Request, caller: PageCaller, name: Name) -> Response:
    """Whether to delete a job, with what stays."""
    job = await find_job(caller.cluster, caller.namespace, name)
    path = ((job.get("status") or {}).get("output") or {}).get("path", "")
    return _question(request, "delete", name, path=path, ended=has_ended(job))


@router.get("/training/{name}/again")
async def plan_again(request: Request, caller: PageCaller, name: Name, field: str = "", values: str = "") -> Response:
    """The jobs that would be created: one like this one, or one for each value of a field."""
    planned: list[Variant] = []
    problem = ""
    try:
        job = await find_job(caller.cluster, caller.namespace, name)
        taken = [one["metadata"]["name"] for one in await list_jobs(caller.cluster, caller.namespace)]
        planned = variants(job, taken, field, values)
    except InvalidResource as wrong:
        problem = "\n".join(wrong.problems)
    given: dict[str, Any] = {"planned": planned, "problem": problem, "field": field, "values": values}
    if request.headers.get("hx-target") == "planned":
        return page(request, "planned.html", name=name, **given)
    return _question(request, "again", name, settings=settings(), **given)


@router.post("/training/{name}/again")
async def create_again(request: Request, caller: PageCaller, name: Name, form: Form) -> Response:
    """Create the planned jobs, and show the one, or the list of them."""
    job = await find_job(caller.cluster, caller.namespace, name)
    taken = [one["metadata"]["name"] for one in await list_jobs(caller.cluster, caller.namespace)]
    names = form.get("names", "").split()
    planned = variants(job, taken, form.get("field", ""), form.get("values", ""), names)
    for one in planned:
        await create_once(caller.cluster, one.job, caller.namespace, named=True)
    if len(planned) == 1:
        return _to(job_path(planned[0].job.name), request)
    return RedirectResponse(address(request, "/training", search=name), 303)


@router.post("/training/{name}/delete", dependencies=SENT_BY_A_PAGE)
async def delete(request: Request, caller: PageCaller, name: Name) -> Response:
    """Delete the job and show the list."""
    await delete_job(caller.cluster, caller.namespace, name)
    return _to("/training", request)


@router.post("/training/{name}/{change}", dependencies=SENT_BY_A_PAGE)
async def ask(request: Request, caller: PageCaller, name: Name, change: Change) -> Response:
    """Ask for a change and show the job."""
    await change_job(caller.cluster, caller.namespace, name, change)
    return _to(job_path(name), request)


def _question(request: Request, about: str, name: str, **values: Any) -> Response:
    """A question as a page, or with ``HX-Request`` as the content of a dialog."""
    template = "question.html" if request.headers.get("hx-request") else "question_page.html"
    return page(request, template, about=about, name=name, **values)


def _to(path: str, request: Request) -> Response:
    return RedirectResponse(address(request, path), 303)
