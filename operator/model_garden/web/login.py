"""``/login``: a token of the cluster for a session."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from model_garden.api.access import Access
from model_garden.web.pages import PageRoute, page
from model_garden.web.security import SENT_BY_A_PAGE, SESSION_COOKIE, Form, set_cookie
from model_garden.web.sessions import Sessions

router = APIRouter(route_class=PageRoute, include_in_schema=False)
FIRST_PAGE = "/training"


def own_page(path: str) -> str:
    """A path of this server; the first page for anything else, such as the address of another server.

    >>> own_page("/training/receipts"), own_page("//attacker.example"), own_page("https://attacker.example")
    ('/training/receipts', '/training', '/training')
    """
    is_path = path.startswith("/training") and path.isascii() and path.isprintable() and "\\" not in path
    return path if is_path else FIRST_PAGE


@router.get("/login")
async def show_login(request: Request) -> Response:
    """How to log in."""
    return page(request, "login.html", problem=None, back="")


@router.post("/login")
async def log_in(request: Request, form: Form) -> Response:
    """Try the token on the cluster and open a session.

    Raises:
        Unauthorized: it is no token.
        ClusterError: the API server does not accept it.
    """
    access: Access = request.app.state.access
    sessions: Sessions = request.app.state.sessions
    token = form.get("token", "").strip().removeprefix("Bearer ")
    user = await access.caller(f"Bearer {token}", None).cluster.user()
    response = RedirectResponse(own_page(request.query_params.get("next", "")), 303)
    set_cookie(request, response, SESSION_COOKIE, sessions.open(token, user))
    return response


@router.post("/logout", dependencies=SENT_BY_A_PAGE)
async def log_out(request: Request) -> Response:
    """End the session."""
    sessions: Sessions = request.app.state.sessions
    sessions.end(request.cookies.get(SESSION_COOKIE))
    response = RedirectResponse("/login", 303)
    response.delete_cookie(SESSION_COOKIE, path="/")
    return response
