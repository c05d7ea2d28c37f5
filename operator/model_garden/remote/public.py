"""Connections to public addresses alone: rows are data, and must not lead to servers inside the cluster.

The name of a server is resolved here, and the connection goes to the address that was checked, so that a name cannot
stand for another address the next moment. A redirect is a new connection.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx

from model_garden.contract.ip_addresses import is_public
from model_garden.remote.errors import RemoteError

PRIVATE = "MODEL_GARDEN_FETCH_PRIVATE"
"""Variable that allows images at private addresses, if it is ``true``."""


def public_transport() -> httpx.HTTPTransport:
    """A transport that connects to public addresses alone. It uses no proxy, which would resolve names itself."""
    transport = httpx.HTTPTransport()
    allowed = os.environ.get(PRIVATE) == "true"
    transport._pool = httpcore.ConnectionPool(
        ssl_context=httpx.create_ssl_context(),
        network_backend=httpcore.SyncBackend() if allowed else _PublicBackend(),
    )
    return transport


class _PublicBackend(httpcore.SyncBackend):
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(error) from error
        addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
        if refused := next((address for address in addresses if not is_public(address)), None):
            raise RemoteError(
                "Denied",
                f"{host} is {refused}, which is no public address; set the variable {PRIVATE} to true if images may be "
                "fetched from private addresses",
            )
        return super().connect_tcp(str(addresses[0]), port, timeout, local_address, socket_options)
