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
from model_garden.api.access import Access, LocalAccess
from model_garden.api.problems import BadRequest, NoToken, Problem, TooManyRequests, Unauthorized, response_to
from model_garden.contract.declaration import shown
from model_garden.services.rights import missing_right
from model_garden.web.security import CSRF_COOKIE, HEADERS, csrf_cookie, csrf_token, session_of, set_cookie

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
        logged_in=logged_in(request),
        version=__version__,
        path=request.url.path,
        live="hx-request" in request.headers,  # what only a page with JavaScript may say
    )
    return html


def logged_in(request: Request) -> bool:
    """Whether the browser has a session."""
    access: Access | LocalAccess = request.app.state.access
    try:
        return access.needs_token and session_of(request) is not None
    except Unauthorized:
        return False


def page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A template as a response."""
    response = HTMLResponse(text(request, template, **values), status, HEADERS)
    if CSRF_COOKIE not in request.cookies:
        set_cookie(request, response, CSRF_COOKIE, csrf_cookie(request))
    return response


def problem_of(failed: Exception) -> Problem:
    """What a request failed for, in the words of the REST API."""
    if isinstance(failed, RequestValidationError):
        return problem_of(BadRequest("; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in failed.errors()), 422))
    return Problem.model_validate_json(bytes(response_to(failed).body))


def failure(request: Request, failed: Exception) -> Response:
    """The page of a failed request: how to log in for 401, for all else what is wrong."""
    problem = problem_of(failed)
    access: Access | LocalAccess = request.app.state.access
    if problem.status != 401 or access.proxy_auth:
        again = problem.status == 503 and request.method == "GET"
        right = missing_right(problem.detail)
        response = page(request, "error.html", problem.status, problem=problem, right=right, again=again)
        if again:
            response.headers["Refresh"] = "5"
        if isinstance(failed, TooManyRequests):
            response.headers["Retry-After"] = str(failed.retry_seconds)
        return response
    is_get = request.method == "GET"
    here = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
    back = here if is_get else request.query_params.get("next", "")
    shown_problem = None if isinstance(failed, NoToken) else problem
    response = page(request, "login.html", 401, problem=shown_problem, back=back)
    if is_get and request.headers.get("sec-fetch-site") == "cross-site" and isinstance(failed, NoToken):
        # A link on a page elsewhere: browsers withhold the cookie. They send it when this page loads itself again.
        response.headers["Refresh"] = "0"
    return response


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
                return failure(request, failed)

        return answer
