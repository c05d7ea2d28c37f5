"""``/training``: the jobs of a namespace."""

from __future__ import annotations

from typing import get_args

from fastapi import APIRouter, Request
from starlette.responses import Response

from model_garden.contract.status import Phase
from model_garden.services.queries import list_jobs
from model_garden.web import views
from model_garden.web.pages import PageRoute, page
from model_garden.web.security import PageCaller

router = APIRouter(route_class=PageRoute, include_in_schema=False)
MAX_ROWS = 200


@router.get("/training")
async def show_jobs(request: Request, caller: PageCaller, search: str = "", phase: str = "") -> Response:
    """The newest jobs first; the same address with ``HX-Request`` answers the table alone."""
    jobs = list(reversed(await list_jobs(caller.cluster, caller.namespace)))
    found = [job for job in jobs if views.matches(job, search.strip(), phase)]
    now = views.now()
    template = "job_rows.html" if request.headers.get("hx-request") else "job_list.html"
    return page(
        request,
        template,
        rows=[views.row(job, now) for job in found[:MAX_ROWS]],
        found=len(found),
        total=len(jobs),
        most=MAX_ROWS,
        search=search,
        phase=phase,
        phases=get_args(Phase),
        in_namespace=caller.namespace,
    )
