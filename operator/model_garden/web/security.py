"""What protects the pages: headers, a CSRF token in each form, and cookies that scripts cannot read."""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from fastapi import Depends, Request
from starlette.responses import Response

from model_garden.api.access import Access, Caller, LocalAccess, Namespace, counted, counting, sent_authorization
from model_garden.api.body import read_body
from model_garden.api.problems import BadRequest
from model_garden.web.sessions import Session, Sessions

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
CSRF_COOKIE = "model-garden-csrf"
CSRF_FIELD = "csrf_token"
SESSION_COOKIE = "model-garden-session"
MAX_FIELDS = 500


def csrf_cookie(request: Request) -> str:
    """The value of the cookie that a form's token is made from: the browser's, else a new one."""
    if not hasattr(request.state, "csrf_cookie"):
        request.state.csrf_cookie = request.cookies.get(CSRF_COOKIE) or secrets.token_urlsafe(32)
    return str(request.state.csrf_cookie)


def csrf_token(request: Request) -> str:
    """The token that forms of this browser and session carry.

    A page of a neighboring domain can set the cookie, but cannot read the session's, so that it cannot make the token.
    """
    return hashlib.sha256(f"{csrf_cookie(request)} {request.cookies.get(SESSION_COOKIE, '')}".encode()).hexdigest()


def set_cookie(request: Request, response: Response, name: str, value: str) -> None:
    """Set a cookie that scripts cannot read and other sites cannot send."""
    secure = request.url.scheme == "https"
    response.set_cookie(name, value, httponly=True, samesite="strict", secure=secure, path="/")


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form that one of this server's own pages sent, those left empty removed.

    Raises:
        BadRequest: it is no form, or it has no valid CSRF token.
    """
    check_origin(request)
    body = await read_body(request, "application/x-www-form-urlencoded")
    try:
        fields = dict(parse_qsl(body.decode(), max_num_fields=MAX_FIELDS, strict_parsing=bool(body)))
    except ValueError as wrong:
        raise BadRequest(f"the form cannot be read: {wrong}") from wrong
    check_csrf_token(request, fields.pop(CSRF_FIELD, ""))
    return fields


def check_origin(request: Request) -> None:
    """Refuse a form that a page of another origin sends.

    Raises:
        BadRequest: another origin sent it.
    """
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise BadRequest(f"the form comes from {origin}; open the page on this server and send it from there", 403)


def check_csrf_token(request: Request, sent: str) -> None:
    """Refuse a form whose token is not that of the browser and its session.

    Raises:
        BadRequest: it is another, or there is none.
    """
    if CSRF_COOKIE not in request.cookies or not secrets.compare_digest(sent.encode(), csrf_token(request).encode()):
        raise BadRequest("the form has no valid CSRF token; reload the page, allow cookies, and send it again", 403)


Form = Annotated[dict[str, str], Depends(read_form)]
SENT_BY_A_PAGE = [Depends(read_form)]
"""The dependencies of a route that only needs to know that a page of this server sent the form."""


def page_caller(request: Request, namespace: Namespace = None) -> Caller:
    """The caller of a page: of the session cookie, else of the header that a proxy sets, else the laptop's own.

    Raises:
        Unauthorized: there are no credentials where some are needed.
    """
    access: Access | LocalAccess = request.app.state.access
    session = session_of(request) if access.needs_token else None
    caller = access.caller(f"Bearer {session.token}" if session else sent_authorization(request), namespace)
    return counted(request, caller)


def session_of(request: Request) -> Session | None:
    """The session of the browser that asks.

    Raises:
        Unauthorized: it has ended.
    """
    sessions: Sessions = request.app.state.sessions
    return sessions.read(request.cookies.get(SESSION_COOKIE))


PageCaller = Annotated[Caller, Depends(page_caller)]


COUNTED = counting(page_caller)
"""The dependencies of a page that works for seconds, or moves large files."""
