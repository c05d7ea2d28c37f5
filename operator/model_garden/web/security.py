"""What protects the pages: headers, a CSRF token in each form, and sessions whose token never leaves the server."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from fastapi import Depends, Request
from starlette.responses import Response

from model_garden.api.access import Access, Caller, Namespace, sent_authorization
from model_garden.api.body import read_body
from model_garden.api.problems import BadRequest

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
SESSION_SECONDS = 12 * 3600.0
MAX_SESSIONS = 10_000
MAX_FIELDS = 500


def csrf_token(request: Request) -> str:
    """The token that forms of this browser carry: the cookie's, else a new one."""
    if not hasattr(request.state, "csrf_token"):
        request.state.csrf_token = request.cookies.get(CSRF_COOKIE) or secrets.token_urlsafe(32)
    return str(request.state.csrf_token)


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
    """Refuse a form whose token is not that of the browser's cookie.

    Raises:
        BadRequest: it is another, or there is none.
    """
    known = request.cookies.get(CSRF_COOKIE, "")
    if not known or not secrets.compare_digest(sent.encode(), known.encode()):
        raise BadRequest("the form has no valid CSRF token; reload the page, allow cookies, and send it again", 403)


Form = Annotated[dict[str, str], Depends(read_form)]
SENT_BY_A_PAGE = [Depends(read_form)]
"""The dependencies of a route that only needs to know that a page of this server sent the form."""


@dataclass
class Session:
    """A person who logged in: the token, and until when the session lasts."""

    token: str
    expires: float


class Sessions:
    """Tokens by the id in the session cookie, in this process's memory."""

    def __init__(self) -> None:
        self._by_id: dict[str, Session] = {}

    def open(self, token: str) -> str:
        """Keep ``token`` and return the id of its session."""
        now = time.monotonic()
        self._by_id = {key: one for key, one in self._by_id.items() if one.expires > now}
        while len(self._by_id) >= MAX_SESSIONS:
            self._by_id.pop(next(iter(self._by_id)))
        session = secrets.token_urlsafe(32)
        self._by_id[session] = Session(token, now + SESSION_SECONDS)
        return session

    def token(self, session: str | None) -> str | None:
        """The token of a session; None for one that is unknown or has expired."""
        found = self._by_id.get(session or "")
        return found.token if found and found.expires > time.monotonic() else None

    def close(self, session: str | None) -> None:
        """Forget a session."""
        self._by_id.pop(session or "", None)


def page_caller(request: Request, namespace: Namespace = None) -> Caller:
    """The caller of a page: of the session cookie, else of the ``Authorization`` header, else the laptop's own.

    Raises:
        Unauthorized: there are no credentials where some are needed.
    """
    access: Access = request.app.state.access
    token = request.app.state.sessions.token(request.cookies.get(SESSION_COOKIE))
    return access.caller(f"Bearer {token}" if token else sent_authorization(request), namespace)


PageCaller = Annotated[Caller, Depends(page_caller)]
