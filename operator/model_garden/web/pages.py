"""Templates, and the route class that answers failures with a page."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from model_garden import __version__
from model_garden.api.problems import BadRequest, Problem, response_to
from model_garden.contract.declaration import shown
from model_garden.web.security import CSRF_COOKIE, HEADERS, SESSION_COOKIE, csrf_token, set_cookie

FOLDER = Path(__file__).parent
_templates = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


_templates.filters["shown"] = shown


def job_path(name: str) -> str:
    """The address of a job's page. That of a job named ``new`` is the form's, so that it has one of its own."""
    return "/training/new/page" if name == "new" else f"/training/{name}"


def address(request: Request, path: str, **query: str) -> str:
    """``path`` with a query, and with the request's namespace where it names one."""
    namespace = request.query_params.get("namespace", "")
    found = urlencode({key: value for key, value in {**query, "namespace": namespace}.items() if value})
    return f"{path}?{found}" if found else path


def text(request: Request, template: str, **values: Any) -> str:
    """A template as HTML."""
    html: str = _templates.get_template(template).render(
        values,
        link=partial(address, request),
        job_path=job_path,
        namespace=request.query_params.get("namespace", ""),
        csrf_token=csrf_token(request),
        logged_in=SESSION_COOKIE in request.cookies,
        version=__version__,
        path=request.url.path,
        live="hx-request" in request.headers,  # what only a page with JavaScript may say
    )
    return html


def page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A template as a response."""
    response = HTMLResponse(text(request, template, **values), status, HEADERS)
    if CSRF_COOKIE not in request.cookies:
        set_cookie(request, response, CSRF_COOKIE, csrf_token(request))
    return response


def problem_of(failed: Exception) -> Problem:
    """What a request failed for, in the words of the REST API."""
    if isinstance(failed, RequestValidationError):
        return problem_of(BadRequest("; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in failed.errors()), 422))
    return Problem.model_validate_json(bytes(response_to(failed).body))


class PageRoute(APIRoute):
    """A route whose failures are pages: 401 shows how to log in, all else what is wrong."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler with its failures answered."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except HTTPException:
                raise
            except Exception as failed:
                problem = problem_of(failed)
                template = "login.html" if problem.status == 401 else "error.html"
                again = problem.status == 503 and request.method == "GET"
                response = page(request, template, problem.status, problem=problem, again=again)
                if again:
                    response.headers["Refresh"] = "5"
                return response

        return answer
