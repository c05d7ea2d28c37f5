"""``/login``: a token of the cluster for a session whose cookie holds only an id."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from model_garden.api.access import Access
from model_garden.services.listing import Selection, list_page
from model_garden.web.pages import PageRoute, page
from model_garden.web.security import SENT_BY_A_PAGE, SESSION_COOKIE, Form, set_cookie

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/login")
async def show_login(request: Request) -> Response:
    """How to log in."""
    return page(request, "login.html", problem=None)


@router.post("/login")
async def log_in(request: Request, form: Form) -> Response:
    """Try the token on the cluster and open a session.

    Raises:
        Unauthorized: it is no token.
        ClusterError: the API server does not accept it.
    """
    access: Access = request.app.state.access
    token = form.get("token", "").strip()
    caller = access.caller(f"Bearer {token}", None)
    await list_page(caller.cluster, Selection(caller.namespace, limit=1))
    response = RedirectResponse("/training", 303)
    set_cookie(request, response, SESSION_COOKIE, request.app.state.sessions.open(token))
    return response


@router.post("/logout", dependencies=SENT_BY_A_PAGE)
async def log_out(request: Request) -> Response:
    """Forget the session's token."""
    request.app.state.sessions.close(request.cookies.get(SESSION_COOKIE))
    response = RedirectResponse("/login", 303)
    response.delete_cookie(SESSION_COOKIE, path="/")
    return response
