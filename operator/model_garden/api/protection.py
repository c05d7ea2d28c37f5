"""A server must answer under its own addresses alone, and web pages of other origins must not use it.

A page elsewhere can make its own name resolve to the server's address (DNS rebinding), or send requests to the server
itself. The first shows in the ``Host`` header, the second in ``Origin``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model_garden.api.problems import problem

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
"""What every answer has that does not set its own: a browser never runs or embeds it."""
HEALTH_PATH = "/healthz"
_PORTS = {"http": 80, "https": 443}


class Addresses:
    """The addresses of a server.

    Args:
        urls: those that people open, such as ``https://garden.example.com``. Loopback addresses are always among them.
        loopback: whether the server can be reached from this machine alone. Without it and without ``urls``, the
            addresses are not known, and every ``Host`` is accepted.

    Raises:
        ValueError: a URL has no scheme or host, or has a path.
    """

    def __init__(self, urls: Sequence[str] = (), *, loopback: bool = False) -> None:
        self._schemes = dict(map(_address, urls))
        self._any_host = not urls and not loopback

    def scheme(self, host: str) -> str | None:
        """The scheme under which browsers reach ``host``; None where it is not known."""
        return self._schemes.get(host.lower())

    def refusal(self, headers: Headers) -> str | None:
        """Why a request is refused; None for one that is sent to this server by no page, or by a page of its own."""
        host, origin = headers.get("host", ""), headers.get("origin")
        scheme = self.scheme(host)
        if not (self._any_host or scheme or is_loopback(host_name(host))):
            own = ", ".join(["localhost", "127.0.0.1", *self._schemes])
            return f"the Host header is {host!r}; this server answers for {own} only, and --url adds an address"
        if origin is not None:
            sent = _split(origin)
            if sent is None or sent.netloc != host or (scheme and sent.scheme != scheme):
                return f"the Origin header is {origin!r}; pages of another origin may not use this server"
        return None


class Protected:
    """Middleware that refuses what ``Addresses`` refuses, and gives every answer its security headers."""

    def __init__(self, app: ASGIApp, addresses: Addresses) -> None:
        self._app = app
        self._addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        # A kubelet probes the health check by the pod's address.
        refused = None if scope["path"] == HEALTH_PATH else self._addresses.refusal(headers)
        if refused:
            await problem(403, "Forbidden", refused)(scope, receive, send_protected)
            return
        # TLS ends at a proxy. The address says whether there is one; no header that anyone could send is asked.
        scope["scheme"] = self._addresses.scheme(headers.get("host", "")) or scope["scheme"]
        await self._app(scope, receive, send_protected)


def host_name(netloc: str) -> str:
    """The name in ``NAME:PORT``; empty for one that cannot be read."""
    parts = _split(f"//{netloc}")
    return (parts.hostname or "") if parts else ""


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _address(url: str) -> tuple[str, str]:
    """A URL as the ``Host`` header that browsers send for it, and its scheme."""
    parts = _split(url)
    if parts is None or parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError(f"--url {url!r} must be an address such as https://garden.example.com")
    return parts.netloc.lower().removesuffix(f":{_PORTS[parts.scheme]}"), parts.scheme


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None
