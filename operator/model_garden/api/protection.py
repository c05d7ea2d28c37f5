"""A server on a laptop must not be reachable by web pages that its user visits elsewhere.

A page can make its own name resolve to 127.0.0.1 (DNS rebinding), or send requests to http://localhost itself. The
first shows in the ``Host`` header, the second in ``Origin``.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from model_garden.api.problems import problem


class LoopbackOnly:
    """Middleware that refuses a ``Host`` that is not this machine, and an ``Origin`` that is not the server itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or hand it on."""
        refused = refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        if refused:
            await problem(403, "Forbidden", refused)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def refusal(headers: Headers) -> str | None:
    """Why a request is refused; None for one that comes from this machine."""
    host, origin = headers.get("host", ""), headers.get("origin")
    if not is_loopback(host_name(host)):
        return f"the Host header is {host!r}; this server answers for localhost and 127.0.0.1 only"
    if origin is not None and urlsplit(origin).netloc != host:
        return f"the Origin header is {origin!r}; pages of another origin may not use this server"
    return None


def host_name(netloc: str) -> str:
    """The name in ``NAME:PORT``; empty for one that cannot be read."""
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
